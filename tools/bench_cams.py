"""Grad-CAM beside other packages: speed in one run, memory, and how far their maps are (part of `make bench`).

    python tools/bench_cams.py [--rounds N]

The same ResNet-18 with random weights, the same batch of 16 films of 224 px, maps at film size. The packages take
turns, so that other work on the machine meets all of them; ratios are medians over the rounds. Memory is the growth of
a fresh process's peak during one call, beside that of a plain forward and backward pass.
"""
from __future__ import annotations

import argparse
import importlib.util
import io
import statistics
import subprocess
import sys
from collections.abc import Callable
from contextlib import redirect_stderr
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
from bench_turns import peak_mb, take_turns  # noqa: E402

PEERS = {"pytorch-grad-cam": "pytorch_grad_cam", "captum": "captum", "torchcam": "torchcam"}
BATCH, SIZE_PX = 16, 224


def jobs() -> dict[str, Callable[[], object]]:
    "Name -> one batch explained; packages that are not installed are left out"
    import torch
    from torchvision.models import resnet18

    from covid_xray.gradcam import explain

    torch.manual_seed(0)
    model, films = resnet18(weights=None).eval(), torch.rand(BATCH, 3, SIZE_PX, SIZE_PX)

    def pytorch_grad_cam() -> None:
        from pytorch_grad_cam import GradCAM
        from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
        with GradCAM(model, [model.layer4]) as cam:
            cam(films, [ClassifierOutputTarget(0)] * BATCH)

    def captum() -> None:
        from captum.attr import LayerAttribution, LayerGradCam
        small = LayerGradCam(model, model.layer4).attribute(films, target=0, relu_attributions=True)
        LayerAttribution.interpolate(small, (SIZE_PX, SIZE_PX), "bilinear")

    def torchcam() -> None:
        from torch.nn.functional import interpolate
        from torchcam.methods import GradCAM
        with GradCAM(model, "layer4") as cam:
            small, = cam(0, model(films))
        interpolate(small[:, None], (SIZE_PX, SIZE_PX), mode="bilinear")

    found = {"forward and backward": lambda: model(films)[:, 0].sum().backward(),
             "covid_xray": lambda: explain(model, films, 0, layer="layer4")}
    peers = {"pytorch-grad-cam": pytorch_grad_cam, "captum": captum, "torchcam": torchcam}
    return found | {name: job for name, job in peers.items() if importlib.util.find_spec(PEERS[name])}


def speeds(rounds: int) -> dict[str, tuple[list[float], list[float]]]:
    "Name -> processor seconds and wall seconds of each round"
    return {name: (way["processor"], way["wall"]) for name, way in take_turns(jobs(), rounds).items()}


def own_peak(name: str) -> float:
    "Memory that one call adds to a process that has everything loaded, MB; run it in a fresh process"
    import torch
    from torchvision.models import resnet18

    from covid_xray.gradcam import explain
    explain(resnet18(weights=None).eval(), torch.rand(1, 3, 64, 64), 0)  # what is loaded and made only once
    for module in PEERS.values():
        if importlib.util.find_spec(module):
            __import__({"captum": "captum.attr", "torchcam": "torchcam.methods"}.get(module, module))
    job = jobs()[name]
    before = peak_mb()
    job()
    return peak_mb() - before


def peak(name: str) -> float:
    "The same, in a process of its own"
    command = [sys.executable, __file__, "--peak", name]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])


def heatmaps(rounds: int = 7) -> list[dict]:
    "Rows for the table of `make bench`"
    times = speeds(rounds)
    rows = []
    for name, (cpu, wall) in times.items():
        rows.append({"what": f"16 films at 224 px: {name}", "unit": "s", "how": f"median of {rounds} rounds in turn",
                     "cpu": round(statistics.median(cpu), 3), "wall": round(statistics.median(wall), 3)})
    ours = times["covid_xray"]
    for name in (n for n in times if n in PEERS):
        ratio = [round(statistics.median(t / o for t, o in zip(theirs, mine)), 2)
                 for theirs, mine in zip(times[name], ours)]
        rows.append({"what": f"covid_xray is faster than {name} by", "unit": "times", "cpu": ratio[0], "wall": ratio[1],
                     "how": "median of the rounds' ratios"})
    rows += distances()
    if sys.platform != "win32":
        memory = {name: peak(name) for name in times}
        rows += [{"what": f"memory: {name}", "unit": "MB", "how": "added by one call in a fresh process",
                  "cpu": round(mb), "wall": round(mb)} for name, mb in memory.items()]
    return rows


def distances() -> list[dict]:
    "How far maps of other packages are from ours after scaling each to 0..1: the largest difference of a pixel"
    import numpy as np
    import torch
    from torch.nn.functional import interpolate
    from torchvision.models import resnet18

    from covid_xray.gradcam import explain

    torch.manual_seed(0)
    model, films = resnet18(weights=None).eval(), torch.rand(2, 3, 96, 96)

    def scaled(maps: np.ndarray) -> np.ndarray:
        low, high = maps.min((1, 2), keepdims=True), maps.max((1, 2), keepdims=True)
        return (maps - low) / (high - low)

    def theirs(package: str, kind: str) -> np.ndarray:
        if package == "torchcam":
            from torchcam import methods
            with getattr(methods, kind)(model, "layer3") as cam:
                small, = cam([0, 0], model(films))
            return interpolate(small[:, None].detach(), films.shape[2:], mode="bilinear")[:, 0].numpy()
        import pytorch_grad_cam
        from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
        with getattr(pytorch_grad_cam, kind)(model, [model.layer3]) as cam, redirect_stderr(io.StringIO()):  # its bars
            return cam(films, [ClassifierOutputTarget(0)] * 2)

    kinds = {("pytorch-grad-cam", "gradcam"): "GradCAM", ("pytorch-grad-cam", "gradcam++"): "GradCAMPlusPlus",
             ("pytorch-grad-cam", "scorecam"): "ScoreCAM", ("torchcam", "gradcam"): "GradCAM",
             ("torchcam", "gradcam++"): "GradCAMpp", ("torchcam", "scorecam"): "ScoreCAM"}
    rows = []
    for (package, method), kind in kinds.items():
        if importlib.util.find_spec(PEERS[package]):
            ours = explain(model, films, 0, method=method, layer="layer3").maps
            far = float(abs(scaled(ours) - scaled(theirs(package, kind))).max())
            rows.append({"what": f"{method}: distance to {package}", "unit": "of 1", "cpu": far, "wall": far,
                         "how": "largest, maps scaled to 0..1"})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description="Grad-CAM beside other packages: speed and memory")
    parser.add_argument("--rounds", type=int, default=7, help="how often the packages take turns")
    parser.add_argument("--peak", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peak:
        print(own_peak(options.peak))
        return
    for r in heatmaps(options.rounds):
        print(f"{r['what']:52}{r['cpu']:>10.3g}{r['wall']:>10.3g} {r['unit']:6}{r['how']}")


if __name__ == "__main__":
    main()
