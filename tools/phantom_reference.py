"""Remake the films that tests/test_phantom.py compares every platform with: tests/data/phantom_reference.npz.

    python tools/phantom_reference.py

Run it only when phantom's VERSION was raised: the stored films belong to one version, and the test says so. Twelve
films at 128 px: each finding, view, sex and hospital, and every planted thing.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
from covid_xray import phantom  # noqa: E402

SIZE_PX = 128
REFERENCE = Path(__file__).parents[1] / "tests" / "data" / "phantom_reference.npz"
THINGS = ("marker", "text", "border", "wires", "tube", "curve", "copy")


def films() -> list[phantom.Film]:
    "Twelve films that differ in everything; each carries one planted thing or none"
    return [
        phantom.Film(
            seed=7, patient=k, film=4 * k, sex="FM"[k % 2], age=25 + 5 * k,
            finding=phantom.CLASSES[k % 3], severity=0.0 if k % 3 == 1 else 0.3 + 0.05 * k,
            view=phantom.VIEWS[k // 2 % 3], hospital=phantom.HOSPITALS[k // 3 % 2],
            **({THINGS[k]: 1} if k < len(THINGS) else {}),
        )
        for k in range(12)
    ]


def main() -> None:
    paths = [film.path for film in films()]
    masks = phantom.masks(paths, SIZE_PX)
    packed = {f"mask_{name}": np.packbits(masks[name], axis=-1) for name in phantom.MASKS}
    REFERENCE.parent.mkdir(exist_ok=True)
    images = phantom.render(paths, SIZE_PX)
    np.savez_compressed(REFERENCE, version=phantom.VERSION, paths=paths, images=images, **packed)
    print(f"{REFERENCE}: {len(paths)} films of version {phantom.VERSION}, {REFERENCE.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
