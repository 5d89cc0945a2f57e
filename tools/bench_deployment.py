"""Speed of a deployed model: onnxruntime against eager PyTorch, and a folder of films against a loop over Pillow.

    python tools/bench_deployment.py [--films 1000] [--rounds 3] [--json FILE]    # `make bench` runs it, too

Both ways are timed in turns in one process, several rounds, and the ratio is that of the medians of wall time, so that
other work on the machine weighs on both. The folder holds 40 different phantoms as PNG files of 1024 px; each is read
as often as it takes to come to the number of films. The loop does no gate, no words, no batch: open, grey, resize,
network.
"""
from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
from bench_turns import middle, take_turns  # noqa: E402
from covid_xray import phantom  # noqa: E402
from covid_xray.deploy import Predictor  # noqa: E402
from covid_xray.export import OnnxPredictor  # noqa: E402

DIFFERENT, SIDE_PX = 40, 1024


def in_turns(ways: dict[str, Callable[[], object]], rounds: int) -> dict[str, tuple[float, float]]:
    "Median wall seconds and median processor seconds of each way, run in turns"
    spent = take_turns(ways, rounds, warm_up=False)
    return {name: (middle(way["wall"]), middle(way["processor"])) for name, way in spent.items()}


def per_image_loop(predictor: Predictor, paths: list[Path]) -> list[np.ndarray]:
    "What one writes first: each film on its own"
    found, side = [], predictor.settings["size_px"]
    with torch.inference_mode():
        for path in paths:
            picture = Image.open(path).convert("L").resize((side, side), Image.Resampling.BILINEAR)
            image = torch.from_numpy(np.asarray(picture).copy())[None, None].float() / 255
            found.append((predictor.network(image) / predictor.temperature).softmax(1)[0].numpy())
    return found


def write_films(folder: Path) -> list[Path]:
    "Phantoms as PNG files of the size of an original"
    paths = list(phantom.teaching_table()["path"][:DIFFERENT])
    files = [folder / f"{i:04d}.png" for i in range(len(paths))]
    for path, file in zip(paths, files):
        Image.fromarray(phantom.render([path], SIDE_PX)[0]).save(file)
    return files


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--films", type=int, default=1000, help="films of the folder")
    parser.add_argument("--rounds", type=int, default=3, help="times both ways are run")
    parser.add_argument("--json", type=Path, metavar="FILE", help="keep the figures in a file")
    options = parser.parse_args()
    predictor = Predictor.load("phantom", strict_gate=False)
    quick = OnnxPredictor(predictor)
    one = phantom.render(list(phantom.teaching_table()["path"][:1]), predictor.settings["size_px"])
    ways = {"eager PyTorch": lambda: predictor.probabilities(one), "onnxruntime": lambda: quick.probabilities(one)}
    in_turns(ways, 5)
    single = in_turns(ways, 50)
    with tempfile.TemporaryDirectory() as folder:
        files = write_films(Path(folder))
        paths = [files[i % len(files)] for i in range(options.films)]
        slow, fast = per_image_loop(predictor, paths[:DIFFERENT]), quick.predict(paths[:DIFFERENT])
        gap = max(np.abs(a - list(b.probabilities.values())).max() for a, b in zip(slow, fast))
        whole = in_turns({"loop, PyTorch and Pillow": lambda: per_image_loop(predictor, paths),
                          "Predictor on onnxruntime": lambda: quick.predict(paths)}, options.rounds)
    print(f"{torch.get_num_threads()} threads; largest difference of a probability {gap:.1e}")
    for title, found in (("one film, ms", single), (f"{options.films} films of {SIDE_PX} px, s", whole)):
        scale = 1000 if title.endswith("ms") else 1
        print(title)
        for name, (wall, cpu) in found.items():
            print(f"  {name:28}{scale * wall:9.2f} wall {scale * cpu:9.2f} processor")
    ratios = {"onnxruntime / eager": single["onnxruntime"][0] / single["eager PyTorch"][0],
              "loop / folder": whole["loop, PyTorch and Pillow"][0] / whole["Predictor on onnxruntime"][0]}
    print({name: round(value, 2) for name, value in ratios.items()})
    if options.json:
        kept = {"one_film": single, "folder": whole, "ratios": ratios, "films": options.films}
        options.json.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
