"""Make the published parts and folds of the open sets: covid_xray/folds/<source>.csv, one row a film, by checksum.

    python tools/make_folds.py        # deterministic: seed 0, 5 folds, 70 / 15 / 15 %

Only films of the three classes are dealt. Persons and duplicate groups stay together; equal files are listed once.
"""
from pathlib import Path

from covid_xray.records import CLASSES
from covid_xray.sources import manifest
from covid_xray.splits import patient_folds, split_by_patient

FOLDS = Path(__file__).resolve().parent.parent / "covid_xray" / "folds"


def main() -> None:
    FOLDS.mkdir(exist_ok=True)
    for name in ("darkcovidnet", "cohen", "hannover", "raikokte"):
        rows = manifest(name)
        rows = rows[rows["label"].isin(CLASSES)].reset_index(drop=True)
        dealt = patient_folds(split_by_patient(rows, seed=0), k=5, seed=0)
        films = dealt[["sha256", "split", "fold"]].drop_duplicates("sha256").sort_values("sha256")
        films.to_csv(FOLDS / f"{name}.csv", index=False, lineterminator="\n")
        print(f"{name}: {len(films)} films in {dealt['split'].nunique()} parts and {dealt['fold'].nunique()} folds")


if __name__ == "__main__":
    main()
