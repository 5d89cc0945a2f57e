"""How fast is what a reader waits for? Prints a table of measured times (`make bench`).

    python tools/bench.py [--json FILE]

Each row has processor time (of all threads) and wall time, and says how it was measured. Processor time bears other
work on the machine better; wall time is what a reader feels. Nothing here passes or fails.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
sys.path.insert(0, str(ROOT / "tools"))
from bench_cams import heatmaps  # noqa: E402


def timed(action: Callable[[], object]) -> tuple[float, float]:
    "Processor seconds and wall seconds of one call"
    wall, cpu = time.perf_counter(), time.process_time()
    action()
    return time.process_time() - cpu, time.perf_counter() - wall


def row(what: str, unit: str, cpu: float, wall: float, how: str) -> dict:
    return {"what": what, "unit": unit, "cpu": round(cpu, 3), "wall": round(wall, 3), "how": how}


def phantoms(n: int = 200) -> dict:
    "Drawing films with their masks, as `simulate` does"
    from covid_xray import phantom

    paths = list(phantom.teaching_table()["path"][: n + 4])
    phantom.render(paths[n:], 224)  # tables of splines and letters are made once
    cpu, wall = timed(lambda: phantom.render(paths[:n], 224))
    how = f"extrapolated from {n} films of the default set, as many threads as `render` takes of its own accord"
    return row("1,000 phantoms at 224 px", "s", cpu / n * 1000, wall / n * 1000, how)


def explorers(moves: int = 6) -> list[dict]:
    "Moves of every control of the phantom's two explorers: film, masks, outline, PNG and numbers"
    from covid_xray.explore import phantom

    panels = {"a film": phantom.panel(size_px=256), "the hospital": phantom.hospital_panel(size_px=256)}
    return [redraws(name, panel.children[1].children[:-1], moves) for name, panel in panels.items()]


def redraws(name: str, controls: tuple, moves: int) -> dict:
    "The slowest control of a panel: the median over its moves to and fro between two values"
    slowest = (0.0, 0.0, "")
    for control in controls:
        first, times = control.value, []
        for k in range(moves):
            times.append(timed(lambda: setattr(control, "value", another(control) if k % 2 == 0 else first)))
        cpu, wall = (1000 * statistics.median(kind) for kind in zip(*times))
        slowest = max(slowest, (cpu, wall, control.description))
    how = f"slowest of {len(controls)} controls ({slowest[2]}), median of {moves} moves; no browser"
    return row(f"explorer of {name}, redraw at 256 px", "ms", slowest[0], slowest[1], how)


def another(control) -> object:
    "A value that a control does not have"
    if hasattr(control, "options"):
        values = [option[1] if isinstance(option, tuple) else option for option in control.options]
        return next(value for value in values if value != control.value)
    far = control.min if control.value != control.min else control.max
    return (control.min, control.max) if isinstance(control.value, tuple) else far


def command(what: str, arguments: list[str], runs: int = 5) -> dict:
    "A fresh Python that does one thing"
    times = []
    for _ in range(runs + 1):
        before, start = os.times(), time.perf_counter()
        subprocess.run([sys.executable, *arguments], cwd=ROOT, check=True, capture_output=True)
        after, wall = os.times(), time.perf_counter() - start
        cpu = after.children_user + after.children_system - before.children_user - before.children_system
        times.append((cpu, wall))
    cpu, wall = (statistics.median(kind) for kind in zip(*times[1:]))
    return row(what, "s", cpu, wall, f"median of {runs} fresh processes, the first left out")


def first_figure() -> dict:
    "Chapter 1 opened in a fresh kernel and run down to its first figure"
    import nbformat
    from nbclient import NotebookClient

    chapter = nbformat.read(ROOT / "nbs" / "01_data.ipynb", as_version=4)
    shown = next(k for k, cell in enumerate(chapter.cells) if "show(fig" in cell.source)
    chapter.cells = chapter.cells[: shown + 1]
    before, start = os.times(), time.perf_counter()
    NotebookClient(chapter, resources={"metadata": {"path": str(ROOT / "nbs")}}).execute()
    after, wall = os.times(), time.perf_counter() - start
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return row("chapter 1 to its first figure", "s", cpu, wall, "one run, start of the kernel included; no browser")


def made_up_predictions(n: int = 1125, patients: int = 900):
    "Predictions of DarkCovidNet's number of films, some people with two"
    import numpy as np
    import pandas as pd

    from covid_xray.models import Predictions

    rng = np.random.default_rng(0)
    targets = rng.integers(3, size=n)
    logits = rng.normal(size=(n, 3)) + 1.5 * np.eye(3)[targets]
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    people = pd.DataFrame({"person": [f"p{k % patients}" for k in range(n)]}, dtype="string")
    return Predictions(probabilities.astype("float32"), targets, people, ("covid", "normal", "pneumonia"))


def by_scikit_learn(targets, probabilities) -> list:
    "The metrics of `metrics_table` on one resample, by scikit-learn"
    import numpy as np
    from sklearn import metrics

    said, one_hot = probabilities.argmax(1), np.eye(3)[targets]
    areas = [(metrics.roc_auc_score(one_hot[:, c], probabilities[:, c]),
              metrics.average_precision_score(one_hot[:, c], probabilities[:, c])) for c in range(3)]
    specificity = [metrics.recall_score(targets != c, said != c) for c in range(3)]
    return [areas, specificity, metrics.precision_recall_fscore_support(targets, said, zero_division=np.nan),
            metrics.accuracy_score(targets, said), metrics.balanced_accuracy_score(targets, said),
            metrics.cohen_kappa_score(targets, said), metrics.matthews_corrcoef(targets, said),
            metrics.log_loss(targets, probabilities), ((probabilities - one_hot) ** 2).sum(1).mean()]


def bootstraps(resamples: int = 10_000, looped: int = 50) -> list[dict]:
    "Every metric on resamples of people: the library's way against a loop over scikit-learn"
    import numpy as np

    from covid_xray.intervals import bootstrap, clusters

    predictions, rng = made_up_predictions(), np.random.default_rng(0)
    person, probabilities = clusters(predictions), predictions.probabilities.astype(float)
    probabilities /= probabilities.sum(1, keepdims=True)
    films = [np.flatnonzero(person == k) for k in range(person.max() + 1)]

    def loop() -> None:
        for _ in range(looped):
            rows = np.concatenate([films[k] for k in rng.integers(len(films), size=len(films))])
            by_scikit_learn(predictions.targets[rows], probabilities[rows])

    bootstrap(predictions, resamples=100)
    by_scikit_learn(predictions.targets, probabilities)
    ours = timed(lambda: bootstrap(predictions, resamples=resamples))
    theirs = [seconds * resamples / looped for seconds in timed(loop)]
    what = f"bootstrap of all metrics, {resamples:,} resamples of {len(person):,} films"
    ratio = [slow / quick for slow, quick in zip(theirs, ours)]
    return [row(what, "s", *ours, f"all {resamples:,} run"),
            row("the same by a scikit-learn loop", "s", *theirs, f"extrapolated from {looped} resamples"),
            row("loop / library", "times", *ratio, "ratio of the two rows above")]


def training_steps(size_px: int = 128, batch_size: int = 32, races: int = 3) -> list[dict]:
    "A training step in plain fp32, and the way that `fit(precision=\"auto\")` would take: in turns, in the same races"
    import torch

    from covid_xray.arithmetic import Arithmetic, fastest, make_step, time_steps, ways_to_compute
    from covid_xray.cnn import create_model

    rows, plain = [], Arithmetic()
    images, targets = torch.rand(batch_size, 1, size_px, size_px), torch.arange(batch_size) % 3
    for name in ("plain", "residual", "darkcovidnet", "torchvision:resnet18"):
        model = create_model(name)
        racers = {way: make_step(model, way, images, targets) for way in ways_to_compute("cpu")}
        chosen = fastest(time_steps(racers), plain)  # as `fit` does it: from one race; what it gains from further ones
        both = {way: racers[way] for way in (plain, chosen)}
        cpu, wall = ([time_steps(both, clock=clock) for _ in range(races)]
                     for clock in (time.process_time, time.perf_counter))
        middle = {way: [1000 * statistics.median(race[way] for race in kind) for kind in (cpu, wall)] for way in both}
        what, how = f"training step, {name}, {batch_size} films at {size_px} px", f"median of {races} races, in turns"
        ratio = [slow / quick for slow, quick in zip(middle[plain], middle[chosen])]
        rows += [row(f"{what}, fp32", "ms", *middle[plain], how),
                 row(f"{what}, auto", "ms", *middle[chosen], f"took {chosen}; {how}"),
                 row("fp32 / auto", "times", *ratio, "ratio of the two rows above")]
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, metavar="FILE", help="keep the figures in a file")
    options = parser.parse_args()
    rows = [phantoms(), *explorers(),
            command("import covid_xray", ["-c", "import covid_xray"]),
            command("covid-xray --help", ["-m", "covid_xray", "--help"]),
            first_figure(),
            *bootstraps(), *training_steps(), *heatmaps()]
    machine = {"python": platform.python_version(), "system": platform.system(), "processor": platform.machine(),
               "cores": os.cpu_count(), "date": time.strftime("%Y-%m-%d")}
    print(", ".join(f"{name} {value}" for name, value in machine.items()))
    wide = max(len(r["what"]) for r in rows)
    print(f"{'':{wide}}{'cpu':>11}{'wall':>11}")
    for r in rows:
        print(f"{r['what']:{wide}}{r['cpu']:>11,.4g}{r['wall']:>11,.4g} {r['unit']:6}{r['how']}")
    if options.json:
        options.json.write_text(json.dumps({"machine": machine, "rows": rows}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
