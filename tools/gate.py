"""Fit the input gate and measure how often it is wrong on real films (`make gate`, needs COVID_XRAY_DATA).

    python tools/gate.py --data DIR [--keep]    # --keep measures the shipped gate and fits nothing

Persons are halved at random. Average, patterns and templates come from phantoms and from those films of the first half
whose licence lets derived numbers be shared; limits from all films of the first half and the phantoms. The table holds
films of the second half, bad pictures made of them, drawn monsters, and photos that came with installed packages
(scikit-learn, matplotlib, scikit-image where it is there).
"""
from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from importlib import util
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
from covid_xray import admission, phantom  # noqa: E402
from covid_xray.data import read_radiograph, resize  # noqa: E402
from covid_xray.intervals import wilson  # noqa: E402

RESULTS = ROOT / "covid_xray" / "results"
SHARED = r"NIH|CC BY 3\.0|CC BY 4\.0|CC0|Apache|authorized for everyone"  # and nothing of NC, ND, SA
PASS = {"error": 0.99, "part": 0.98, "lateral": 0.99}  # shares of good films that pass each sign


def read_films(data: Path) -> tuple[pd.DataFrame, list[np.ndarray]]:
    "The manifest with its films, as they are"
    table = pd.read_csv(data / "manifest.csv")
    with ThreadPoolExecutor() as pool:
        films = list(pool.map(lambda name: read_radiograph(data / name), table["file"]))
    return table, films


def halves(table: pd.DataFrame, seed: int = 0) -> np.ndarray:  # bool [N], True for the half that is fitted to
    "Halve persons (unknown ones by their duplicate group)"
    person = table["person_id"].fillna("group " + table["dup_group"].astype(str)).astype(str)
    names = np.array(sorted(person.unique()))
    chosen = np.random.default_rng(seed).permutation(names)[:len(names) // 2]
    return person.isin(chosen).to_numpy()


def may_be_shared(table: pd.DataFrame) -> np.ndarray:
    "Whether a film's licence lets numbers derived from it be shared"
    licence = table["license"].fillna("")
    bound = licence.str.contains(r"\b(?:NC|ND|SA)\b")
    return (licence.str.contains(SHARED) & ~bound | (licence == "CC BY")).to_numpy()


def fit(table: pd.DataFrame, films: list[np.ndarray], first: np.ndarray) -> admission.Gate:
    "A gate from phantoms and the first half of the persons"
    drawn = phantom.render(list(phantom.teaching_table()["path"][:300]), 64)
    small = np.stack([resize(film, 64) for film in films])
    gate = admission.fit_gate(np.concatenate([small[first & may_be_shared(table)], drawn]))
    limits = {name: max(admission.find_limits(gate, some, share)[name] for some in (small[first], drawn))
              for name, share in PASS.items()}
    return replace(gate, limits=limits)


def photos() -> Iterator[Image.Image]:
    "Photos that came with installed packages"
    places = (("sklearn", "datasets/images"), ("matplotlib", "mpl-data/sample_data"), ("skimage", "data"))
    for package, folder in places:
        found = util.find_spec(package)
        for path in sorted((Path(found.origin).parent / folder).glob("*.*g")) if found else ():
            if path.stem not in ("logo2", "Minduka_Present_Blue_Pack", "phantom", "multipage"):
                yield Image.open(path).convert("RGB")


def windows(picture: Image.Image, rng: np.random.Generator, count: int = 8) -> Iterator[Image.Image]:
    "The whole and some square windows of a photo"
    yield picture
    for _ in range(count):
        side = int(min(picture.size) * rng.uniform(0.4, 1))
        left, top = (int(rng.integers(length - side + 1)) for length in picture.size)
        yield picture.crop((left, top, left + side, top + side))


def row(kind: str, source: str, persons: int, flags: list[list[admission.Flag]]) -> dict:
    "How many of some pictures are refused, with an interval, and the commonest reason"
    reasons = pd.Series([next((flag.name for flag in some if flag.severity == "refuse"), "") for some in flags])
    refused = int((reasons != "").sum())
    low, high = wilson(refused, len(flags))
    common = reasons[reasons != ""].value_counts()
    return {"kind": kind, "source": source, "pictures": len(flags), "persons": persons, "refused": refused,
            "share": round(refused / len(flags), 4), "low": round(low, 4), "high": round(high, 4),
            "commonest": common.index[0] if len(common) else ""}


def measure(table: pd.DataFrame, films: list[np.ndarray], second: np.ndarray, gate: admission.Gate) -> pd.DataFrame:
    "False refusals by source, and how much of each bad kind is refused"
    rng, rows = np.random.default_rng(1), []
    good = {name: [films[i] for i in np.flatnonzero(second & (table["source"] == name))]
            for name in table["source"].unique()}
    for name, some in good.items():
        persons = table[second & (table["source"] == name)]["person_id"].nunique()
        rows.append(row("good", name, persons, [admission.admit(film, gate=gate) for film in some]))
    every = [film for some in good.values() for film in some]
    for name, spoil in admission.SPOILED.items():
        rows.append(row(name, "made of real films", 0, [admission.admit(spoil(f, rng), gate=gate) for f in every]))
    for name, draw in admission.MONSTERS.items():
        rows.append(row(name, "drawn", 0, [admission.admit(draw(rng), gate=gate) for _ in range(300)]))
    shots = [window for photo in photos() for window in windows(photo, rng)]
    grey = [np.asarray(shot.convert("L")) for shot in shots]
    rows.append(row("photo", "packages", 0, [admission.admit(g, admission.colourfulness(shot), gate)
                                             for g, shot in zip(grey, shots)]))
    rows.append(row("photo, greyed", "packages", 0, [admission.admit(g, gate=gate) for g in grey]))
    return pd.DataFrame(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with manifest.csv and the films")
    parser.add_argument("--keep", action="store_true", help="measure the shipped gate, fit nothing")
    options = parser.parse_args()
    table, films = read_films(options.data)
    first = halves(table)
    gate = admission.shipped_gate() if options.keep else fit(table, films, first)
    if not options.keep:
        gate.save(RESULTS)
    found = measure(table, films, ~first, gate)
    found.to_csv(RESULTS / "gate.csv", index=False)
    print(found.to_string(index=False))


if __name__ == "__main__":
    main()
