"""Splits by patient against scipy's connected components and by properties, on random tables and on the open sets."""
from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings, strategies as st
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from covid_xray.records import record_table
from covid_xray.sources import manifest
from covid_xray.splits import (
    check_disjoint, ensure_split, patient_folds, patient_groups, published_folds, split_by_patient)


@st.composite
def tables(draw):
    "Tables of 1 to 60 films with few persons and few duplicate groups, some unknown"
    n = draw(st.integers(1, 60))
    persons = draw(st.lists(st.one_of(st.none(), st.integers(0, 20)), min_size=n, max_size=n))
    copies = draw(st.lists(st.one_of(st.none(), st.integers(0, 30)), min_size=n, max_size=n))
    return pd.DataFrame({"person": [pd.NA if p is None else f"p{p}" for p in persons],
                         "dup_group": [pd.NA if c is None else f"d{c}" for c in copies]}, dtype="string")


@settings(max_examples=150, deadline=None)
@given(tables())
def test_groups_are_the_connected_components(table):
    n = len(table)
    keys = pd.concat([table["person"].rename("key"), table["dup_group"].rename("key")]).reset_index(drop=True)
    known = keys.notna().to_numpy()
    films, codes = np.tile(np.arange(n), 2)[known], pd.factorize(keys[known])[0]
    graph = coo_array((np.ones(len(films)), (films, n + codes)), shape=(n + len(films), n + len(films)))
    expected = connected_components(graph, directed=False)[1][:n]
    found = patient_groups(table)
    assert (pd.factorize(found)[0] == pd.factorize(expected)[0]).all()


def hospital(patients: int, seed: int) -> pd.DataFrame:
    "A random table with one to five films a patient and some copies across patients"
    rng = np.random.default_rng(seed)
    films = rng.integers(1, 6, patients)
    person = np.repeat(np.arange(patients), films)
    label = np.repeat(rng.choice(["covid", "normal", "pneumonia"], patients, p=[0.2, 0.5, 0.3]), films)
    copies = np.arange(len(person))
    copies[rng.integers(0, len(copies), 5)] = rng.integers(0, len(copies), 5)
    return record_table({"path": [f"{i}.png" for i in range(len(person))], "label": label,
                         "patient": [f"p{p}" for p in person], "dup_group": [f"d{c}" for c in copies]})


@pytest.mark.parametrize("seed", range(8))
def test_a_split_parts_nobody_and_keeps_the_shares(seed):
    table = hospital(150, seed)
    split = split_by_patient(table, (0.6, 0.2, 0.2), seed)
    groups = patient_groups(table)
    assert split.groupby(groups)["split"].nunique().max() == 1
    shares = pd.crosstab(split["split"], split["label"], normalize="columns")
    assert (shares.loc["train"] - 0.6).abs().max() < 0.06 and (shares.loc["test"] - 0.2).abs().max() < 0.06
    assert split["split"].equals(split_by_patient(table, (0.6, 0.2, 0.2), seed)["split"])
    assert not split["split"].equals(split_by_patient(table, (0.6, 0.2, 0.2), seed + 100)["split"])


def test_folds_part_nobody_and_are_equal():
    table = hospital(200, 1)
    folds = patient_folds(table, k=4, seed=3)
    assert folds.groupby(patient_groups(table))["fold"].nunique().max() == 1
    assert folds["fold"].value_counts().max() - folds["fold"].value_counts().min() <= 6


def test_a_leak_is_named():
    table = hospital(30, 0).assign(split=pd.array(["train", "test"] * 100, dtype="string")[:len(hospital(30, 0))])
    with pytest.raises(ValueError, match="person 'p.*stands in test and train"):
        check_disjoint(table)


def test_impossible_wishes_are_refused():
    table = hospital(40, 0)
    few = pd.concat([table[table["label"] == "normal"], table[table["label"] == "covid"].head(1)])
    for wish in (lambda: split_by_patient(table, (0.5, 0.5, 0.5)), lambda: split_by_patient(table, (1.0, 0.0, 0.0)),
                 lambda: patient_folds(table, 1), lambda: split_by_patient(few)):
        with pytest.raises(ValueError):
            wish()


@pytest.mark.parametrize("name", ["darkcovidnet", "cohen", "hannover", "raikokte"])
def test_published_folds_are_what_the_code_makes(name):
    rows = manifest(name)
    rows = rows[rows["label"].isin(["covid", "normal", "pneumonia"])].reset_index(drop=True)
    published = published_folds(rows)
    check_disjoint(published)
    check_disjoint(published, by="fold")
    fresh = patient_folds(split_by_patient(rows, seed=0), k=5, seed=0)
    assert (fresh["split"] == published["split"]).all() and (fresh["fold"] == published["fold"]).all()


def test_there_are_no_published_folds_for_strangers():
    with pytest.raises(ValueError, match="no folds are published"):
        published_folds(hospital(5, 0))


def tiny(**columns: list) -> pd.DataFrame:
    "A record table of a few rows"
    films = len(next(iter(columns.values())))
    return record_table({"path": [f"{i}.png" for i in range(films)], "label": ["normal"] * films, **columns})


def test_a_leak_counts_who_is_parted_and_looks_at_films_with_a_side_only():
    sides = pd.array(["train", "test", "train", "valid", "train", "train", None], dtype="string")
    table = tiny(patient=["b", "b", "a", "a", "c", "c", "c"]).assign(split=sides)
    with pytest.raises(ValueError, match="person '.*a' stands in train and valid; 2 such in all"):
        check_disjoint(table)
    check_disjoint(table.iloc[4:])  # c is in one part; its third film in none
    with pytest.raises(ValueError, match="person '.*b' stands in 0 and 3; 1 such in all"):
        check_disjoint(table.iloc[:2].assign(fold=pd.array([0, 3], dtype="Int64")), by="fold")
    check_disjoint(table.assign(fold=pd.array([0, 0, 1, 1, 2, 2, 2], dtype="Int64")), by="fold")
    whole_first = tiny(patient=["a", "b", "b", "c"]).assign(
        split=pd.array(["valid", "train", "test", "valid"], dtype="string"))
    with pytest.raises(ValueError, match="person '.*b' stands in test and train; 1 such in all"):
        check_disjoint(whole_first)  # a, before it, is whole and in a third part
    copies = tiny(patient=["a", "b"], dup_group=["d", "d"]).assign(split=pd.array(["train", "test"], dtype="string"))
    with pytest.raises(ValueError, match="dup_group 'd' stands in test and train; 1 such"):
        check_disjoint(copies)


def test_a_class_of_too_few_patients_is_told_with_its_number():
    table = tiny(patient=["a", "a", *"bcdefghij"]).assign(label=["covid"] * 2 + ["normal"] * 9)
    with pytest.raises(ValueError, match="no film of class 'covid' in part 'valid': its 1 patients can't fill 3 parts"):
        split_by_patient(table)
    with pytest.raises(ValueError, match="class 'covid' in part 'fold 1': its 1 patients can't fill 2 parts"):
        patient_folds(table, 2)
    with pytest.raises(ValueError, match="class 'normal' in part 'valid': its 1 patients can't fill 3 parts"):
        split_by_patient(table.assign(label=table["label"].map({"covid": "normal", "normal": "covid"})))
    for fractions in ((0.5, 0.5), (0.4, 0.3, 0.2, 0.1), (1.2, -0.1, -0.1), (0.5, 0.5, 0.0), (0.5, 0.2, 0.2)):
        with pytest.raises(ValueError, match="three positive numbers that sum to 1"):
            split_by_patient(table, fractions)
    with pytest.raises(ValueError, match="k=1: at least 2"):
        patient_folds(table, 1)


def test_a_first_part_without_a_class_is_told_also_where_the_last_one_has_it():
    "Two persons of five normal films fill the first two folds; the one covid film goes with the third person"
    table = tiny(patient=[*"aaaaabbbbbcccc"]).assign(label=["normal"] * 13 + ["covid"])
    with pytest.raises(ValueError, match="no film of class 'covid' in part 'fold 0': its 1 patients can't fill 3"):
        patient_folds(table, 3)


def test_what_is_not_said_is_as_documented():
    table = hospital(150, 4)
    by_default, folds = split_by_patient(table), patient_folds(table)
    assert by_default["split"].equals(split_by_patient(table, (0.7, 0.15, 0.15), 0)["split"])
    assert folds["fold"].equals(patient_folds(table, 5, 0)["fold"]) and set(folds["fold"]) == set(range(5))
    shares = by_default["split"].value_counts(normalize=True)
    assert all(abs(shares[part] - share) < 0.03 for part, share in {"train": 0.7, "valid": 0.15, "test": 0.15}.items())


@pytest.mark.parametrize("labels", [2, 3])
def test_folds_of_equal_patients_are_exactly_equal(labels):
    "With one film a patient and 12 patients a class, four folds have 3 films of each class: there is one right answer"
    names = ["covid", "normal", "pneumonia"][:labels]
    table = tiny(patient=[f"p{i}" for i in range(12 * labels)]).assign(label=names * 12)
    for seed in range(3):
        folds = patient_folds(table, 4, seed)
        assert (pd.crosstab(folds["fold"], folds["label"]) == 3).all().all()


def test_a_split_that_is_there_is_kept_else_the_published_one_else_a_fresh_one():
    table = hospital(60, 2)
    filled = split_by_patient(table, seed=7)
    assert ensure_split(filled) is filled
    assert ensure_split(table)["split"].equals(split_by_patient(table, seed=0)["split"])
    assert ensure_split(table, seed=3)["split"].equals(split_by_patient(table, seed=3)["split"])
    partly = filled.assign(split=filled["split"].mask(np.arange(len(filled)) == 0))
    assert ensure_split(partly, 3)["split"].equals(ensure_split(table, 3)["split"])
    rows = manifest("hannover")
    rows = rows[rows["label"] == "covid"].reset_index(drop=True)
    assert ensure_split(rows, seed=5)["split"].equals(published_folds(rows)["split"])


def test_films_unknown_to_the_published_folds_are_counted_and_named():
    rows = manifest("cohen")
    rows = rows[rows["label"].isin(["covid", "normal", "pneumonia"])].reset_index(drop=True)
    changed = rows.assign(sha256=rows["sha256"].mask(rows.index.isin([3, 9]), "0" * 64))
    with pytest.raises(ValueError, match="2 films have no published fold, the first ") as told:
        published_folds(changed)
    assert str(told.value).endswith(f"the first {rows['path'][3]}: split_by_patient")
    with pytest.raises(ValueError, match="no folds are published for cohen, elsewhere"):
        published_folds(rows.assign(source=["cohen"] * (len(rows) - 1) + ["elsewhere"]))
