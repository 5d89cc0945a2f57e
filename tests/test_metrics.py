"Chapter 5: every metric against scikit-learn or a number worked by hand, every interval against an independent one"
from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest
import sklearn.metrics as reference
from hypothesis import given, settings
from hypothesis import strategies as st

from covid_xray import decisions, intervals, metrics

CLASSES = ("covid", "normal", "pneumonia")


@dataclass
class Said:
    probabilities: np.ndarray
    targets: np.ndarray
    table: pd.DataFrame | None
    classes: tuple[str, ...] = CLASSES


def said(films=200, persons=90, seed=0, classes=CLASSES, skill=1.5, digits=None) -> Said:
    "Predictions with a known amount of skill; `digits` rounds the scores, so that there are ties"
    rng = np.random.default_rng(seed)
    targets = rng.integers(len(classes), size=films)
    logits = skill * np.eye(len(classes))[targets] + rng.normal(size=(films, len(classes)))
    if digits is not None:
        logits = logits.round(digits)
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    table = pd.DataFrame({"person": pd.array([f"p{i}" for i in rng.integers(persons, size=films)], dtype="string")})
    return Said(probabilities.astype(np.float32), targets, table, classes)


@st.composite
def matrices(draw):
    "Targets and calls of 2 to 4 classes, often with classes that are absent, never called, or alone"
    n_classes = draw(st.integers(2, 4))
    films = draw(st.integers(1, 25))
    label = st.integers(0, draw(st.integers(0, n_classes - 1)))
    return n_classes, *(np.array(draw(st.lists(label, min_size=films, max_size=films))) for _ in range(2))


@st.composite
def rankings(draw):
    "Truth and scores with both kinds present and with many ties"
    films = draw(st.integers(2, 40))
    values = st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.500001, 0.9, 1.0])
    scores = np.array(draw(st.lists(values, min_size=films, max_size=films)))
    positive = np.array(draw(st.lists(st.booleans(), min_size=films, max_size=films)))
    positive[0], positive[-1] = True, False
    return positive, scores


@pytest.fixture(autouse=True)
def _quiet():
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="sklearn")
        yield


@settings(max_examples=80, deadline=None)
@given(matrices())
def test_counts_equal_scikit_learn_on_random_and_degenerate_inputs(case):
    n_classes, targets, predicted = case
    labels, same = list(range(n_classes)), lambda a, b: np.testing.assert_allclose(a, b, atol=1e-12, equal_nan=True)
    confusion = metrics.confusion_matrix(targets, predicted, n_classes)
    assert confusion.dtype == np.int64
    same(confusion, reference.confusion_matrix(targets, predicted, labels=labels))
    same(metrics.accuracy(confusion), reference.accuracy_score(targets, predicted))
    same(metrics.balanced_accuracy(confusion), reference.balanced_accuracy_score(targets, predicted))
    same(metrics.matthews(confusion), reference.matthews_corrcoef(targets, predicted))
    if len(set(targets) | set(predicted)) > 1:
        same(metrics.kappa(confusion), reference.cohen_kappa_score(targets, predicted, labels=labels))
    else:
        assert np.isnan(metrics.kappa(confusion))
    for mine, theirs in ((metrics.precision, reference.precision_score), (metrics.recall, reference.recall_score),
                         (metrics.f1, reference.f1_score)):
        options = dict(labels=labels, zero_division=np.nan)
        same(mine(confusion), theirs(targets, predicted, average=None, **options))
        same(metrics.macro(mine(confusion)), theirs(targets, predicted, average="macro", **options))
    for c in labels:
        theirs = reference.recall_score(targets == c, predicted == c, pos_label=False, zero_division=np.nan)
        same(metrics.specificity(confusion)[c], theirs)


@settings(max_examples=80, deadline=None)
@given(rankings())
def test_curves_equal_scikit_learn_with_ties(case):
    positive, scores = case
    curve = reference.roc_curve(positive, scores, drop_intermediate=False)
    for mine, theirs in zip(metrics.roc_curve(positive, scores), curve):
        np.testing.assert_allclose(mine, theirs, atol=1e-12)
    np.testing.assert_allclose(metrics.auroc(positive, scores), reference.roc_auc_score(positive, scores), atol=1e-12)
    average_precision = reference.average_precision_score(positive, scores)
    np.testing.assert_allclose(metrics.auprc(positive, scores), average_precision, atol=1e-12)
    precision, recall, thresholds = reference.precision_recall_curve(positive, scores)
    curve = precision[:-1], recall[:-1], thresholds
    for mine, theirs in zip(metrics.precision_recall_curve(positive, scores), curve):
        np.testing.assert_allclose(mine[::-1], theirs, atol=1e-12)


@st.composite
def probabilities(draw):
    "Targets and probabilities of 2 to 4 classes with ties, certain answers and, often, absent classes"
    n_classes, films = draw(st.integers(2, 4)), draw(st.integers(1, 25))
    parts = st.lists(st.sampled_from([0, 1, 1, 2, 5]), min_size=n_classes, max_size=n_classes).filter(any)
    rows = np.array(draw(st.lists(parts, min_size=films, max_size=films)), dtype=np.float64)
    highest = draw(st.integers(0, n_classes - 1))
    targets = np.array(draw(st.lists(st.integers(0, highest), min_size=films, max_size=films)))
    return targets, rows / rows.sum(1, keepdims=True)


@settings(max_examples=80, deadline=None)
@given(probabilities())
def test_losses_and_calibration_equal_scikit_learn_on_random_and_degenerate_inputs(case):
    targets, q = case
    labels, brier = list(range(q.shape[1])), metrics.film_losses(targets, q)[0].mean()
    assert metrics.film_losses(targets, q)[1].mean() == pytest.approx(reference.log_loss(targets, q, labels=labels))
    if q.shape[1] == 2:
        assert brier == pytest.approx(reference.brier_score_loss(targets, q[:, 1], pos_label=1))
    else:
        assert brier == pytest.approx(reference.mean_squared_error(np.eye(q.shape[1])[targets], q) * q.shape[1])
    gap, sure, right = 0.0, q.max(1), q.argmax(1) == targets
    for k in range(10):  # bin by bin, a sure answer of 1 in the last one
        inside = (sure * 10 >= k) & ((sure * 10 < k + 1) | (k == 9))
        gap += abs((right[inside] - sure[inside]).sum())
    p = Said(q, targets, None, tuple("abcd"[:q.shape[1]]))
    assert metrics.calibration_error(p) == pytest.approx(gap / len(targets))


@settings(max_examples=60, deadline=None)
@given(rankings(), st.floats(0.01, 50), st.floats(0.01, 0.99))
def test_no_threshold_costs_less_than_the_one_chosen(case, cost_of_miss, prevalence):
    positive, scores = case

    def cost(threshold: float) -> float:
        missed, alarmed = (scores[positive] < threshold).mean(), (scores[~positive] >= threshold).mean()
        return cost_of_miss * prevalence * missed + (1 - prevalence) * alarmed

    chosen = decisions.threshold_by_cost(positive, scores, cost_of_miss=cost_of_miss, prevalence=prevalence)
    assert cost(chosen) <= min(map(cost, [*scores, np.inf])) + 1e-12
    thresholds = np.array([0.1, 0.5, 0.9])
    benefit = decisions.net_benefit(positive, scores, thresholds)
    assert (benefit <= positive.mean() + 1e-12).all()


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 50), st.integers(0, 50), st.integers(0, 50), st.integers(0, 50))
def test_predictive_values_at_the_own_prevalence_are_the_counted_ones(found, missed, cleared, alarmed):
    confusion = np.array([[found, missed], [alarmed, cleared]])
    sensitivity, specificity = metrics.recall(confusion)
    prevalence = (found + missed) / max(confusion.sum(), 1)
    positive, negative = metrics.predictive_values(sensitivity, specificity, prevalence)
    if found + missed and alarmed + cleared:
        np.testing.assert_allclose([positive, negative], metrics.precision(confusion), atol=1e-12, equal_nan=True)
    else:  # one kind is missing: a rate is unknown, and so is what follows from it
        assert np.isnan(positive) and np.isnan(negative)


def test_worked_by_hand():
    # DarkCovidNet's saved three-class fold: 201 of 225 right
    fold = np.array([[24, 1, 3], [0, 102, 7], [1, 12, 75]])
    assert metrics.accuracy(fold) == pytest.approx(201 / 225)
    np.testing.assert_allclose(metrics.recall(fold), [24 / 28, 102 / 109, 75 / 88])
    np.testing.assert_allclose(metrics.precision(fold), [24 / 25, 102 / 115, 75 / 85])
    np.testing.assert_allclose(metrics.specificity(fold), [196 / 197, 103 / 116, 127 / 137])
    np.testing.assert_allclose(metrics.f1(fold), [48 / 53, 204 / 224, 150 / 173])
    # 3 sick, 3 healthy, one tie across: 8.5 of 9 pairs in order
    assert metrics.auroc([1, 1, 0, 1, 0, 0], [0.9, 0.8, 0.6, 0.6, 0.4, 0.1]) == pytest.approx(8.5 / 9)
    assert metrics.auprc([1, 1, 0, 1, 0, 0], [0.9, 0.8, 0.6, 0.6, 0.4, 0.1]) == pytest.approx((1 + 1 + 3 / 4) / 3)
    assert metrics.predictive_values(0.9, 0.9, 0.01) == pytest.approx((90 / 1080, 8910 / 8920))


def test_a_stack_of_matrices_gives_the_same_as_each_alone():
    stack = np.random.default_rng(0).integers(0, 9, (7, 3, 3))
    for metric in (metrics.accuracy, metrics.balanced_accuracy, metrics.kappa, metrics.matthews, metrics.recall,
                   metrics.precision, metrics.specificity, metrics.f1):
        np.testing.assert_allclose(metric(stack), [metric(matrix) for matrix in stack])


def as_scikit_learn_sees_it(p: Said) -> dict:
    "Every row of the metrics table from scikit-learn alone; all classes must be present"
    predicted, truth = p.probabilities.argmax(1), np.eye(len(p.classes))[p.targets]
    probabilities = p.probabilities.astype(np.float64)
    eps = np.finfo(np.float32).eps
    of_truth = np.clip(probabilities[np.arange(len(predicted)), p.targets], eps, 1 - eps)
    brier = np.mean([reference.mean_squared_error(t, q) * len(t) for t, q in zip(truth, probabilities)])
    values = {("accuracy", "overall"): reference.accuracy_score(p.targets, predicted),
              ("balanced_accuracy", "overall"): reference.balanced_accuracy_score(p.targets, predicted),
              ("kappa", "overall"): reference.cohen_kappa_score(p.targets, predicted),
              ("matthews", "overall"): reference.matthews_corrcoef(p.targets, predicted),
              ("brier", "overall"): brier,
              ("log_loss", "overall"): -np.log(of_truth).mean()}
    if len(p.classes) == 2:
        values["brier", "overall"] = reference.brier_score_loss(p.targets, probabilities[:, 1] / probabilities.sum(1))
    for c, name in enumerate(p.classes):
        is_it, called = p.targets == c, predicted == c
        values |= {("recall", name): reference.recall_score(is_it, called),
                   ("precision", name): reference.precision_score(is_it, called, zero_division=np.nan),
                   ("specificity", name): reference.recall_score(~is_it, ~called),
                   ("f1", name): reference.f1_score(is_it, called, zero_division=np.nan),
                   ("auroc", name): reference.roc_auc_score(is_it, probabilities[:, c]),
                   ("auprc", name): reference.average_precision_score(is_it, probabilities[:, c])}
    for metric in ("recall", "precision", "specificity", "f1", "auroc", "auprc"):
        values[metric, "macro"] = np.nanmean([values[metric, name] for name in p.classes])
    return values


@pytest.mark.parametrize("p", [
    said(), said(digits=1), said(classes=("covid", "normal")), said(skill=0), said(30, 20, digits=0)])
def test_table_equals_scikit_learn(p):
    table, expected = metrics.metrics_table(p), as_scikit_learn_sees_it(p)
    assert list(table.columns) == ["metric", "label", "value"] and len(table) == len(expected)
    for row in table.itertuples():
        assert row.value == pytest.approx(expected[row.metric, row.label], abs=1e-6), (row.metric, row.label)


def test_log_loss_equals_scikit_learn_where_probabilities_are_zero():
    p = Said(np.array([[1, 0, 0], [0, 1, 0], [0.2, 0.3, 0.5]]), np.array([0, 2, 2]), None)
    table = metrics.metrics_table(p).set_index(["metric", "label"]).value
    log_loss = reference.log_loss(p.targets, p.probabilities, labels=[0, 1, 2])
    assert table["log_loss", "overall"] == pytest.approx(log_loss)


def test_constant_scores_and_one_class_missing():
    p = Said(np.full((6, 3), 1 / 3, dtype=np.float32), np.array([0, 0, 1, 1, 1, 1]), None)
    table = metrics.metrics_table(p).set_index(["metric", "label"]).value
    assert table["auroc", "covid"] == table["auroc", "normal"] == 0.5
    assert table["auprc", "covid"] == pytest.approx(2 / 6)
    for undefined in (("recall", "pneumonia"), ("auroc", "pneumonia"), ("auprc", "pneumonia"), ("precision", "normal"),
                      ("auroc", "macro")):
        assert np.isnan(table[undefined]), undefined
    assert table["recall", "macro"] == 0.5  # of the two classes that are there
    only_one = metrics.metrics_table(Said(np.eye(3)[[0, 0]], np.array([0, 0]), None))
    only_one = only_one.set_index(["metric", "label"]).value
    assert only_one["accuracy", "overall"] == 1 and np.isnan(only_one["specificity", "covid"])


@pytest.mark.parametrize("bad, message", [
    (np.nan, r"NaN in 2 of 200 rows \(first: 5, 17\)"), (1.5, r"outside 0 to 1 in 2 of 200 rows \(first: 5, 17\)"),
    (-0.1, "outside 0 to 1"), (0.9, "do not sum to 1")])
def test_unsound_probabilities_raise_with_their_rows(bad, message):
    p = said()
    p.probabilities[[5, 17]] = bad
    for function in (metrics.metrics_table, intervals.metrics_table_with_intervals, metrics.plot_roc, decisions.report):
        with pytest.raises(ValueError, match=message):
            function(p)


def test_other_unsound_input_raises():
    p = said()
    with pytest.raises(ValueError, match="targets are not 0 to 2"):
        metrics.metrics_table(Said(p.probabilities, np.full(200, 3), p.table))
    with pytest.raises(ValueError, match="table has 5 rows"):
        metrics.metrics_table(Said(p.probabilities, p.targets, p.table[:5]))
    with pytest.raises(ValueError, match="films > 0"):
        metrics.metrics_table(Said(np.zeros((0, 3)), np.zeros(0, dtype=int), None))
    with pytest.raises(ValueError, match="0 to 1"):
        metrics.confusion_matrix([0, 2], [0, 1], 2)
    with pytest.raises(ValueError, match="without NaN"):
        metrics.auroc([True, False], [0.5, np.nan])
    with pytest.raises(ValueError, match="unknown"):
        decisions.report(p, "pdf")


@pytest.mark.parametrize("digits", [None, 0])
def test_bootstrap_equals_scikit_learn_on_each_resample(digits):
    p = said(80, 30, digits=digits)
    values = intervals.bootstrap(p, resamples=25, seed=3)
    person = intervals.clusters(p)
    drawn = intervals.draw_weights(person.max() + 1, 25, np.random.default_rng(3)).astype(int)
    for r in range(25):
        rows = np.repeat(np.arange(80), drawn[person, r])
        expected = as_scikit_learn_sees_it(Said(p.probabilities[rows], p.targets[rows], None))
        for key, value in expected.items():
            np.testing.assert_allclose(values[key][r], value, atol=1e-6, err_msg=str(key))


def test_bootstrap_slices_do_not_change_the_result():
    p = said(60, 25)
    few, many = intervals.bootstrap(p, resamples=100), intervals.bootstrap(p, resamples=4100)
    assert all(len(value) == 4100 for value in many.values())
    np.testing.assert_array_equal(few["auroc", "covid"], many["auroc", "covid"][:100])


def test_a_class_absent_from_a_resample_is_undefined_there():
    targets = np.array([0] + [1] * 10 + [2] * 10)
    p = Said(np.eye(3)[targets] * 0.7 + 0.1, targets, None)
    table = intervals.metrics_table_with_intervals(p, resamples=500).set_index(["metric", "label"])
    row = table.loc[("recall", "covid")]
    assert 130 < row.undefined < 240  # (1 - 1/21)^21 = 36 % of 500
    assert (row.low, row.high) == (1, 1) and table.loc[("accuracy", "overall")].undefined == 0
    assert np.isnan(intervals.bootstrap(p, resamples=500)["auroc", "macro"]).sum() == row.undefined


def test_persons_are_person_else_duplicate_group_else_film():
    p = said(6, 3)
    columns = {"person": ["a", "a", None, None, None, "g1"], "dup_group": ["x", "y", "g1", "g1", None, "z"]}
    p.table = pd.DataFrame(columns, dtype="string", index=range(9, 15))
    assert intervals.clusters(p).tolist() == [0, 0, 1, 1, 2, 3]
    assert intervals.metrics_table_with_intervals(p, resamples=50).persons.eq(4).all()
    p.table = None
    assert intervals.clusters(p).tolist() == [0, 1, 2, 3, 4, 5]


def test_one_person_has_no_interval():
    p = said(10, 1)
    table = intervals.metrics_table_with_intervals(p, resamples=20)
    assert table[["low", "high"]].isna().all(axis=None) and table.value.notna().any()
    assert list(table.columns)[:7] == ["metric", "label", "value", "low", "high", "persons", "films"]


def test_ten_thousand_resamples_of_every_metric():
    values = intervals.bootstrap(said(1125, 765), resamples=10_000)
    assert len(values) == 30 and all(len(column) == 10_000 for column in values.values())


def test_wilson_by_hand():
    assert intervals.wilson(21, 24) == pytest.approx((0.69, 0.957), abs=0.001)
    none_of_ten = 1.96**2 / (10 + 1.96**2)  # z²/(n+z²)
    assert intervals.wilson(0, 10) == pytest.approx((0, none_of_ten), abs=1e-4)
    assert intervals.wilson(0, 0) == (0, 1)
    with pytest.raises(ValueError, match="0 to trials"):
        intervals.wilson(5, 4)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 300), st.data())
def test_wilson_ends_solve_the_score_equation(trials, data):
    successes = data.draw(st.integers(0, trials))
    for end in intervals.wilson(successes, trials):
        if 1e-9 < end < 1 - 1e-9:
            z = (successes / trials - end) / (end * (1 - end) / trials) ** 0.5
            assert abs(z) == pytest.approx(1.959964, abs=1e-4)


@pytest.mark.parametrize("share, half_width", [(0.9, 0.05), (0.5, 0.1), (0.99, 0.01), (1.0, 0.05), (0.5, 0.5)])
def test_patients_needed_is_the_smallest_number(share, half_width):
    def reach(n):
        z = 1.959964
        return z * (share * (1 - share) / n + z * z / (4 * n * n)) ** 0.5 / (1 + z * z / n)
    n = intervals.patients_needed(share, half_width)
    assert reach(n) <= half_width and (n == 1 or reach(n - 1) > half_width)


@pytest.mark.parametrize("difference, disagreement, power", [(0.04, 0.1, 0.8), (0.1, 0.2, 0.9), (0.02, 0.08, 0.8)])
def test_patients_to_compare_reach_their_power(difference, disagreement, power):
    "The exact power of McNemar's test: wins among a binomial number of disagreements"
    from scipy.stats import binom

    n = intervals.patients_to_compare(difference, disagreement, power=power)
    reached = 0.0
    for unlike in range(1, n + 1):
        wins = np.arange(unlike + 1)
        shown = (2 * wins - unlike) / unlike**0.5 > 1.959964
        chance = binom.pmf(wins, unlike, (disagreement + difference) / 2 / disagreement)[shown].sum()
        reached += binom.pmf(unlike, n, disagreement) * chance
    assert reached == pytest.approx(power, abs=0.03)
    for wrong in ((0, 0.1, 0.8), (0.2, 0.1, 0.8), (0.1, 1.2, 0.8), (0.1, 0.2, 0.5), (0.1, 0.2, 1)):
        with pytest.raises(ValueError, match="disagreement"):
            intervals.patients_to_compare(*wrong[:2], power=wrong[2])


def test_paired_difference():
    first = said(300, 300, seed=1)
    rng = np.random.default_rng(2)
    logits = np.log(first.probabilities) + 0.8 * np.eye(3)[first.targets] + 0.3 * rng.normal(size=(300, 3))
    better = Said(np.exp(logits) / np.exp(logits).sum(1, keepdims=True), first.targets, first.table)
    same = intervals.paired_difference(first, first, resamples=200)
    assert (same[["value", "low", "high"]] == 0).all(axis=None)
    row = intervals.paired_difference(first, better).set_index(["metric", "label"]).loc[("auroc", "macro")]
    assert 0 < row.low < row.value < row.high
    with pytest.raises(ValueError, match="targets"):
        intervals.paired_difference(first, said(300, 300, seed=9))
    other = Said(better.probabilities, better.targets, said(300, 40).table)
    with pytest.raises(ValueError, match="persons"):
        intervals.paired_difference(first, other)


@pytest.mark.parametrize("seed", range(4))
def test_delong_agrees_with_the_bootstrap_where_each_person_has_one_film(seed):
    p = said(400, 1, seed=seed, skill=1.0)
    p.table = None
    positive, scores = p.targets == 0, p.probabilities[:, 0]
    area, low, high = intervals.delong(positive, scores)
    assert area == pytest.approx(reference.roc_auc_score(positive, scores))
    drawn = intervals.bootstrap(p, resamples=4000)["auroc", "covid"]
    assert (high - low) / 2 / 1.96 == pytest.approx(drawn.std(), rel=0.06)
    other = scores + 0.1 * np.random.default_rng(seed).normal(size=400)
    difference, low, high = intervals.delong(positive, scores, other)
    q = Said(np.column_stack([other, 1 - other]).clip(0, 1), (~positive).astype(int), None, ("covid", "rest"))
    r = Said(np.column_stack([scores, 1 - scores]), (~positive).astype(int), None, ("covid", "rest"))
    first, second = (intervals.bootstrap(x, resamples=4000)["auroc", "covid"] for x in (q, r))
    pair = first - second
    assert difference == pytest.approx(metrics.auroc(positive, other) - area)
    assert (high - low) / 2 / 1.96 == pytest.approx(pair.std(), rel=0.12)


def test_thresholds_keep_their_promise():
    rng = np.random.default_rng(0)
    positive, scores = rng.random(300) < 0.3, rng.random(300).round(2)
    scores[positive] = (scores[positive] + 0.4).clip(max=1)
    false_rate, true_rate, thresholds = reference.roc_curve(positive, scores, drop_intermediate=False)
    youden = thresholds[np.argmax(true_rate - false_rate)]
    assert decisions.threshold_by_youden(positive, scores) == pytest.approx(youden)
    for wanted in (0.5, 0.9, 1.0):
        threshold = decisions.threshold_by_sensitivity(positive, scores, wanted)
        assert (scores[positive] >= threshold).mean() >= wanted
        higher = scores[scores > threshold].min(initial=np.inf)
        assert (scores[positive] >= higher).mean() < wanted
    assert decisions.threshold_by_cost(positive, rng.random(300), cost_of_miss=0.001, prevalence=0.001) == np.inf
    with pytest.raises(ValueError, match="both"):
        decisions.threshold_by_youden(np.ones(5, bool), np.arange(5))


def test_temperature_is_recovered_and_keeps_the_order():
    rng = np.random.default_rng(0)
    true = rng.dirichlet([0.7, 0.7, 0.7], 20_000)
    targets = (rng.random((20_000, 1)) > true.cumsum(1)).sum(1).clip(max=2)
    for spoiled in (0.5, 1.0, 3.0):
        p = Said(decisions.scale_probabilities(true, 1 / spoiled), targets, None)
        assert decisions.fit_temperature(p) == pytest.approx(spoiled, rel=0.05)
        assert (p.probabilities.argmax(1) == true.argmax(1)).mean() > 0.999
    p = Said(true, targets, None)
    assert metrics.calibration_error(p) == pytest.approx(decisions.calibration_floor(p), abs=0.004)


def test_calibration_error_by_hand():
    p = Said(np.array([[0.75, 0.25], [0.75, 0.25], [0.05, 0.95], [0.0, 1.0]]), np.array([0, 1, 1, 1]), None, ("a", "b"))
    # bin 0.7: sure 0.75, right 0.5, two films; bin 0.9: sure 0.975, right 1, two films
    assert metrics.calibration_error(p) == pytest.approx((0.25 * 2 + 0.025 * 2) / 4)


def test_full_certainty_belongs_to_the_last_of_ten_bins():
    p = Said(np.array([[1.0, 0.0], [0.95, 0.05], [0.85, 0.15]]), np.array([0, 0, 1]), None, ("a", "b"))
    rows = metrics.reliability(p)
    assert rows.index.tolist() == [8, 9] and rows["films"].tolist() == [1, 2]


@pytest.mark.parametrize("more", [1, -1])
def test_lists_of_two_lengths_are_refused(more):
    "Whichever of the two is longer"
    short, long = np.zeros(4, int), np.zeros(4 + more, int)
    with pytest.raises(ValueError, match="same length"):
        metrics.confusion_matrix(short, long, 2)
    with pytest.raises(ValueError, match="equally long"):
        metrics.roc_curve(short, long.astype(float))


def test_the_matrix_has_a_number_in_each_field():
    p = said(60)
    ax = metrics.plot_confusion_matrix(p)
    counts = metrics.confusion_matrix(p.targets, p.probabilities.argmax(1), 3)
    shares = counts / counts.sum(1, keepdims=True)
    written = {text.get_position(): text.get_text() for text in ax.texts}
    assert written == {(c, r): f"{counts[r, c]}\n{shares[r, c]:.0%}" for r in range(3) for c in range(3)}
    assert np.allclose(ax.images[0].get_array(), shares) and ax.images[0].get_clim() == (0, 1)


def test_the_reliability_diagram_shows_what_is_in_its_table():
    p, (perfect, dots) = said(300), (lambda ax: (ax.lines[0], ax.collections[0]))(metrics.plot_reliability(said(300)))
    rows = metrics.reliability(p, 10)
    assert np.allclose(perfect.get_xydata(), [[0, 0], [1, 1]])
    assert np.allclose(dots.get_offsets(), rows[["confidence", "accuracy"]])
    areas = dots.get_sizes() - dots.get_sizes().min()
    assert np.allclose(areas / areas.max(), (rows["films"] - rows["films"].min()) / np.ptp(rows["films"]), atol=1e-3)
    assert f"{metrics.calibration_error(p, 10):.3f}" in perfect.axes.get_title()


def test_curves_have_their_line_of_chance_and_their_frame():
    for plot, chance in ((metrics.plot_roc, [[0, 0], [1, 1]]), (metrics.plot_reliability, [[0, 0], [1, 1]])):
        ax = plot(said(100))
        assert any(np.array_equal(line.get_xydata(), chance) for line in ax.lines), plot.__name__
    assert ax.get_xlim() == ax.get_ylim() == (0, 1)
    assert metrics.plot_precision_recall(said(100)).get_ylim()[0] == 0


def test_net_benefit_by_hand():
    # threshold 0.2: three called, two of them sick; one false alarm weighs 0.2/0.8
    benefit = decisions.net_benefit([1, 1, 0, 0], [0.9, 0.3, 0.25, 0.1], np.array([0.2]))[0]
    assert benefit == pytest.approx((2 - 0.25) / 4)


@pytest.mark.parametrize("plot", [metrics.plot_confusion_matrix, metrics.plot_roc, metrics.plot_precision_recall,
                                  metrics.plot_reliability,
                                  lambda p, ax=None: intervals.plot_roc_band(p, p.classes[0], ax, resamples=50),
                                  lambda p, ax=None: decisions.plot_scores(p, p.classes[0], ax),
                                  lambda p, ax=None: decisions.plot_decision_curve(p, p.classes[0], ax)])
def test_plots_take_and_return_axes_even_with_a_class_missing(plot):
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    ax = plt.subplots()[1]
    assert plot(said(), ax) is ax
    missing = Said(np.full((4, 3), 1 / 3), np.array([0, 0, 1, 1]), None)
    assert plot(missing).get_xlabel()
    plt.close("all")


def test_report_is_readable_and_holds_the_numbers():
    p = said()
    table = metrics.metrics_table(p).set_index(["metric", "label"]).value
    text = decisions.report(p, resamples=200)
    assert f"{table['accuracy', 'overall']:.3f} (" in text and "not a medical device" in text and "persons" in text
    assert all(len(row.split("|")) == len(block.splitlines()[0].split("|"))
               for block in text.split("\n\n") if block.startswith("|") for row in block.splitlines())
    p.classes = ("covid<b>", "normal|x", "pneumonia")
    page = decisions.report(p, "html", resamples=50)
    assert "covid<b>" not in page and "covid&lt;b&gt;" in page and "data:image/png;base64," in page and 'alt="' in page
    perfect = Said(np.eye(3)[p.targets], p.targets, None)
    text = decisions.report(perfect, resamples=50)
    assert "Wilson's interval" in text and "unknown" in text
