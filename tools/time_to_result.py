"""How long until a network trained from nothing is any good? Ours, fastai's defaults and DarkCovidNet's recipe.

    python tools/time_to_result.py [--data FOLDER] [--peers PYTHON] [--only PATTERN] [--search] [--minutes 3.5]

Counts wall seconds and processor seconds, on two threads, from films that lie decoded in memory (uint8, 256 px, the
same for all) until the macro AUROC on the validation part, looked at after every epoch, first reaches the level. All
that comes after is counted: making films smaller, augmentation, building the network, training, validation; loading
libraries is not. Films are cut by person, anew for each seed, and the systems take turns seed by seed, so that a busy
hour hits all alike. A run ends when it has reached the level or taken three times as long as ours of the same seed:
then it is kept as not reached, and its time is a lower bound.

--search tries each setting of SEARCH once, for 45 seconds at most, with a seed that the final runs don't use; the best
is taken. fastai needs an environment of its own (it wants fastcore 2): PYTHON is .venv-bench/bin/python unless told
otherwise. Runs are kept in covid_xray/results/time_to_result.csv (the search in time_to_result_search.csv), and what is
kept is not run again, so the work may be spread over many sittings of --minutes each.
"""
from __future__ import annotations

import argparse
import fnmatch
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "covid_xray" / "results"
SEEDS, SEARCH_SEED, THREADS, SIZE_PX = range(5), 100, 2, 256
PATIENCE, SEARCH_LIMIT, OURS_LIMIT = 3.0, 45.0, 300.0  # times our run of the same seed; seconds; seconds
LEVELS = {"phantom": 0.90, "darkcovidnet": 0.90}
SYSTEMS = ("ours", "fastai", "darkcovidnet recipe")
OURS = dict(size_px=64, epochs=10, batch_size=16, augment=None, precision="bf16 + channels-last + fused")
SEARCH = {  # what is tried of each system
    "ours": [OURS | dict(model=m, rate=r) for m, r in itertools.product(("plain", "residual"), (2e-3, 4e-3))],
    "fastai": [dict(size_px=s, rate=r, epochs=10) for s, r in ((64, 3e-3), (64, 1e-3), (64, 1e-2), (128, 3e-3))],
    "darkcovidnet recipe": [dict(size_px=256, rate=r, epochs=10) for r in (3e-3, 1e-3, 1e-2)],  # theirs: 3e-3, 100
}


class Reached(Exception):
    "The level, or the limit"


class Watch:
    "Counts from its making, notes what each validation said, and ends the run"

    def __init__(self, level: float, limit: float) -> None:
        self.level, self.limit, self.curve = level, limit, []
        self.wall, self.cpu = time.perf_counter(), time.process_time()

    def seconds(self) -> float:
        return time.perf_counter() - self.wall

    def note(self, targets: np.ndarray, probabilities: np.ndarray) -> None:
        "After a validation"
        from sklearn.metrics import roc_auc_score

        area = float(roc_auc_score(targets, probabilities, multi_class="ovr"))
        self.curve.append((round(self.seconds(), 2), round(time.process_time() - self.cpu, 2), round(area, 4)))
        if area >= self.level:
            raise Reached("the level, or the limit")
        self.tick()

    def tick(self) -> None:
        "After a batch"
        if self.seconds() > self.limit:
            raise Reached("the level, or the limit")


def ours(films: dict, options: dict, seed: int, watch: Watch) -> None:
    "The library's `fit` on small films"
    import torch

    from covid_xray.augment import Augment
    from covid_xray.cnn import create_model
    from covid_xray.data import Radiographs
    from covid_xray.training import fit

    def looked_at(targets: np.ndarray, probabilities: np.ndarray) -> float:
        try:
            watch.note(targets, probabilities)
        except Reached as ended:
            raise KeyboardInterrupt from ended  # which `fit` survives with its best weights
        return watch.curve[-1][2]

    step = SIZE_PX // options["size_px"]
    parts = []
    for name in ("train", "valid"):
        images = films[name].reshape(-1, options["size_px"], step, options["size_px"], step).mean((2, 4))
        parts.append(Radiographs.from_arrays(images.round().astype(np.uint8), films["table"][name]))
    torch.manual_seed(seed)
    fit(create_model(options["model"]), *parts, epochs=options["epochs"], batch_size=options["batch_size"],
        learning_rate=options["rate"], augment=Augment() if options["augment"] else None,
        metrics={"auroc": looked_at}, seed=seed, precision=options["precision"], progress=False)


def darkcovidnet_recipe(films: dict, options: dict, seed: int, watch: Watch) -> None:
    "Ozturk et al. 2020: their network, 256 px, batches of 32, Adam, one cycle; the loop is as bare as can be"
    import torch
    from torch.nn.functional import cross_entropy

    from covid_xray.cnn import create_model

    torch.manual_seed(seed)
    model, batch_size = create_model("darkcovidnet", in_channels=3), 32
    images = {name: torch.from_numpy(films[name])[:, None].expand(-1, 3, -1, -1) for name in ("train", "valid")}
    targets = torch.from_numpy(films["train_targets"])
    batches = -(-len(targets) // batch_size)
    optimiser = torch.optim.Adam(model.parameters(), options["rate"])
    cycle = torch.optim.lr_scheduler.OneCycleLR(optimiser, options["rate"], total_steps=options["epochs"] * batches)
    for _ in range(options["epochs"]):
        model.train()
        for rows in torch.randperm(len(targets)).tensor_split(batches):
            cross_entropy(model(images["train"][rows].float() / 255), targets[rows]).backward()
            optimiser.step()
            cycle.step()
            optimiser.zero_grad()
            watch.tick()
        model.eval()
        with torch.inference_mode():
            said = torch.cat([model(part.float() / 255).softmax(1) for part in images["valid"].split(64)])
        watch.note(films["valid_targets"], said.numpy())


def fastai(films: dict, options: dict, seed: int, watch: Watch) -> None:
    "vision_learner with a fresh ResNet-18, aug_transforms as they are, fit_one_cycle"
    from fastai.callback.core import Callback
    from fastai.vision import all as vision

    class Look(Callback):
        order = 60

        def after_batch(self) -> None:
            watch.tick()

        def before_validate(self) -> None:
            self.said = []

        def after_pred(self) -> None:
            if not self.training:
                self.said.append(self.pred.softmax(1).numpy())

        def after_validate(self) -> None:
            watch.note(films["valid_targets"], np.concatenate(self.said))

    vision.set_seed(seed)
    images, targets = (np.concatenate([films[f"train{end}"], films[f"valid{end}"]]) for end in ("", "_targets"))
    block = vision.DataBlock(
        blocks=(vision.ImageBlock, vision.CategoryBlock(vocab=[0, 1, 2])),
        get_x=lambda row: np.repeat(images[row][..., None], 3, axis=2), get_y=lambda row: int(targets[row]),
        splitter=vision.IndexSplitter(range(len(films["train"]), len(targets))),
        item_tfms=vision.Resize(options["size_px"]), batch_tfms=vision.aug_transforms())
    loaders = block.dataloaders(range(len(targets)), bs=32, num_workers=0, device="cpu")
    learner = vision.vision_learner(loaders, vision.resnet18, pretrained=False, loss_func=vision.CrossEntropyLossFlat())
    with learner.no_bar(), learner.no_logging():
        learner.fit_one_cycle(options["epochs"], options["rate"], cbs=[Look()])


RUN: dict[str, Callable] = {"ours": ours, "fastai": fastai, "darkcovidnet recipe": darkcovidnet_recipe}


def work(tasks: list[dict]) -> None:
    "The runs of one system on one kind of films, in a process of their own; a line of JSON for each as it ends"
    import torch

    torch.set_num_threads(THREADS)
    if tasks[0]["system"] == "fastai":
        import fastai.vision.all  # noqa: F401
    else:
        import accelerate  # noqa: F401

        import covid_xray.training  # noqa: F401
    for task in tasks:
        print(json.dumps(work_on(task)), flush=True)


def work_on(task: dict) -> dict:
    "One run"
    stored = np.load(task["films"])
    films = {name: stored[name] for name in ("train", "valid", "train_targets", "valid_targets")}
    if task["system"] == "ours":
        import pandas as pd

        films["table"] = {name: pd.read_pickle(f"{task['films']}.{name}.pkl") for name in ("train", "valid")}
    watch = Watch(task["level"], task["limit"])
    try:
        RUN[task["system"]](films, task["options"], task["seed"], watch)
    except Reached:
        pass
    areas = [area for *_, area in watch.curve]
    reached = bool(areas) and areas[-1] >= task["level"]
    wall, cpu = watch.curve[-1][:2] if reached else (watch.seconds(), time.process_time() - watch.cpu)
    return {"reached": reached, "seconds": round(wall, 2), "cpu_seconds": round(cpu, 2), "epochs": len(areas),
            "best_auroc": max(areas, default=float("nan")), "curve": " ".join(f"{w}:{a}" for w, _, a in watch.curve)}


def store_films(name: str, data: Path | None, seed: int, folder: Path) -> Path:
    "Decode once, cut by person with this seed, and write what every run starts from"
    from covid_xray.data import Radiographs
    from covid_xray.sources import cache_folder, load_table
    from covid_xray.splits import split_by_patient

    table = load_table(name, data / name if data and name != "phantom" else None)
    table = table[table["split"] != "outside"].reset_index(drop=True) if name == "phantom" else table
    whole = Radiographs(table, SIZE_PX, cache_folder() / "decoded", progress=False)
    cut = split_by_patient(whole.table, seed=seed)
    path, arrays = folder / f"{name}-{seed}.npz", {}
    for part in ("train", "valid"):
        rows = np.flatnonzero(cut["split"] == part)
        arrays |= {part: whole.images[rows], f"{part}_targets": whole.targets[rows]}
        cut.iloc[rows].reset_index(drop=True).to_pickle(f"{path}.{part}.pkl")
    np.savez(path, **arrays)
    return path


def kept(path: Path):
    "The runs so far, as a table"
    import pandas as pd

    names = ["data", "system", "seed", "options", "seconds"]
    return pd.read_csv(path) if path.is_file() else pd.DataFrame(columns=names)


def limit_of(data: str, system: str, seed: int) -> float:
    "Seconds that a run may take: a multiple of our run of the same seed"
    if seed == SEARCH_SEED or system == "ours":
        return SEARCH_LIMIT if seed == SEARCH_SEED else OURS_LIMIT
    mine = kept(RESULTS / "time_to_result.csv").query("data == @data and system == 'ours' and seed == @seed")
    if not len(mine):
        raise SystemExit(f"what the others may take is known when ours has run: --only \"{data}, ours\"")
    return PATIENCE * float(mine["seconds"].iloc[0])


def best_of(data: str, system: str) -> dict:
    "Of the search: the quickest that reached the level, else the one with the highest AUROC"
    tried = kept(RESULTS / "time_to_result_search.csv").query("data == @data and system == @system")
    if not len(tried):
        raise SystemExit(f"nothing is known of {system} on {data}: run with --search first")
    ranked = tried.sort_values(["reached", "seconds", "best_auroc"], ascending=[False, True, False])
    best = ranked.iloc[0] if ranked["reached"].any() else tried.loc[tried["best_auroc"].fillna(0).idxmax()]
    return json.loads(best["options"])


def plan(search: bool, names: list[str]) -> list[list[dict]]:
    "What there is to run, a list for each process; ours before the others, since it limits them"
    if search:
        return [[dict(data=data, system=system, seed=SEARCH_SEED, options=options) for options in SEARCH[system]]
                for data, system in itertools.product(names, SYSTEMS)]
    return [[dict(data=data, system=system, seed=seed, options=None)]
            for seed, data, system in itertools.product(SEEDS, names, SYSTEMS)]


def order_of(task: dict, data: Path | None, folder: Path) -> dict:
    "A run with all that it needs"
    films = folder / f"{task['data']}-{task['seed']}.npz"
    films = films if films.is_file() else store_films(task["data"], data, task["seed"], folder)
    limits = dict(level=LEVELS[task["data"]], limit=limit_of(task["data"], task["system"], task["seed"]))
    return task | dict(films=str(films), options=task["options"] or best_of(task["data"], task["system"])) | limits


def is_kept(order: dict, rows) -> bool:
    same = rows.query("data == @order['data'] and system == @order['system'] and seed == @order['seed']")
    return bool((same["options"] == json.dumps(order["options"])).any())


def run(orders: list[dict], peers: Path, path: Path) -> None:
    "The runs of one system on one kind of films, each kept at once"
    import pandas as pd

    python = str(peers) if orders[0]["system"] == "fastai" else sys.executable
    command = [python, __file__, "--work", json.dumps(orders)]
    threads = os.environ | {"OMP_NUM_THREADS": str(THREADS)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=threads) as job:
        for order, line in zip(orders, job.stdout):
            row = {k: order[k] for k in ("data", "system", "seed")} | {"options": json.dumps(order["options"])}
            row |= {"level": order["level"]} | json.loads(line)
            print({k: v for k, v in row.items() if k != "curve"}, flush=True)
            pd.concat([kept(path), pd.DataFrame([row])]).to_csv(path, index=False)
    if job.returncode:
        raise SystemExit(f"{orders[0]['system']} on {orders[0]['data']} failed")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, metavar="FOLDER", help="holds darkcovidnet/; without it phantoms only")
    bench = ROOT / ".venv-bench/bin/python"
    parser.add_argument("--peers", type=Path, default=bench, metavar="PYTHON", help="has fastai")
    parser.add_argument("--only", default="*", metavar="PATTERN", help='of "data, system", for example "phantom, ours"')
    parser.add_argument("--search", action="store_true", help="try rates, sizes and lengths, one seed")
    parser.add_argument("--minutes", type=float, default=60.0, help="begin no run after so many")
    parser.add_argument("--work", help=argparse.SUPPRESS)
    options = parser.parse_args()
    sys.path[:0] = [str(ROOT)]
    if options.work:
        return work(json.loads(options.work))
    path, started = RESULTS / f"time_to_result{'_search' * options.search}.csv", time.monotonic()
    folder = Path(tempfile.gettempdir()) / "covid_xray_time_to_result"
    folder.mkdir(exist_ok=True)
    for tasks in plan(options.search, ["phantom", "darkcovidnet"] if options.data else ["phantom"]):
        wanted = fnmatch.fnmatch(f"{tasks[0]['data']}, {tasks[0]['system']}", options.only)
        if wanted and time.monotonic() - started < 60 * options.minutes:
            orders = [order_of(task, options.data, folder) for task in tasks]
            orders = [order for order in orders if not is_kept(order, kept(path))]
            if orders:
                run(orders, options.peers, path)


if __name__ == "__main__":
    main()
