"""Make `covid_xray/manifests/*.csv` from a full manifest of the open sets.

    python tools/make_manifests.py MANIFEST.csv [DIR]

Deterministic: the same manifest always gives the same bytes. Facts only, no pixels.
"""
from __future__ import annotations

import sys
from pathlib import Path, PurePosixPath

import pandas as pd

REPOSITORIES = {
    "darkcovidnet": "muhammedtalo/COVID-19",
    "cohen": "hida6/covid-chestxray-dataset",
    "hannover": "ml-workgroup/covid-19-image-repository",
    "raikokte": "Dilara-Benli/covid19_image_classification",
}
# Files over 4 MiB that were recorded from a second repository: name, commit and folder there.
ELSEWHERE = (
    "GeneralBlockchain/covid-19-chest-xray-segmentations-dataset", "377a49490e910a66a7f7aee1b92cdc3d5ac4bddf", "images",
)
VIEWS = {"PA": "PA", "AP": "AP", "AP Supine": "AP supine", "unknown": ""}
COLUMNS = ["file", "label", "finding", "patient", "person", "dup_group", "site", "view", "sex", "age", "width",
           "height", "bytes", "format", "mode", "sha256", "license", "credit", "note", "repository", "commit", "path"]


def manifest_of(rows: pd.DataFrame, repository: str) -> pd.DataFrame:
    "The shipped manifest of one set: facts of the original files and where each can be fetched"
    table = rows.rename(columns={"patient_id": "patient", "person_id": "person", "location": "site"})
    original_name = table["path"].map(lambda path: PurePosixPath(path).name)
    folder = table["file"].map(lambda file: PurePosixPath(*PurePosixPath(file).parts[1:]).parent.as_posix())
    table = table.assign(
        file=folder + "/" + original_name,
        view=table["view"].map(VIEWS),
        credit=table["doi"].where(table["doi"] != "", table["url"]),
        repository=repository,
    )
    elsewhere = table["note"].str.contains(ELSEWHERE[0], regex=False)
    table.loc[elsewhere, ["repository", "commit"]] = ELSEWHERE[:2]
    table.loc[elsewhere, "path"] = ELSEWHERE[2] + "/" + original_name[elsewhere]
    return table[COLUMNS].sort_values("file", kind="stable")


def main(manifest: Path, folder: Path) -> None:
    "Write one CSV a set"
    rows = pd.read_csv(manifest, dtype=str, keep_default_na=False)
    unknown = sorted(set(rows["source"]) - set(REPOSITORIES)) + sorted(set(rows["view"]) - set(VIEWS))
    if unknown:
        raise SystemExit(f"{manifest}: sources or views this tool does not know: {unknown}")
    folder.mkdir(parents=True, exist_ok=True)
    for name, repository in REPOSITORIES.items():
        table = manifest_of(rows[rows["source"] == name], repository)
        (folder / f"{name}.csv").write_bytes(table.to_csv(index=False, lineterminator="\n").encode())
        print(f"{folder.name}/{name}.csv: {len(table)} rows")


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        raise SystemExit(__doc__)
    default = Path(__file__).resolve().parent.parent / "covid_xray" / "manifests"
    main(Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) == 3 else default)
