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
from covid_xray.splits import check_disjoint, patient_folds, patient_groups, published_folds, split_by_patient


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
