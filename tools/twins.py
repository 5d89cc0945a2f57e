"""Static twins of the explorers for the docs site: a picture and the numbers for each place of a slider, no server.

`add_twins` puts one under each cell that shows a panel. Each place is a small WebP inside the page, so a twin works
from a file, offline and without a kernel; site.js moves it. Without JavaScript the first place stays in sight.
"""
from __future__ import annotations

import base64
import html
import io
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

Place = tuple[str, np.ndarray, str]  # what the slider says, picture uint8 [H, W] or [H, W, 3], the numbers as text
NOT_LIVE = "<p><em>An interactive panel: run this notebook to use it.</em></p>"
WIDTH_PX = 820  # of the widest picture
PANEL = re.compile(r"^(?:explorer\.)?panel\(|^app\.panel\(", re.MULTILINE)


def drawn(plot: Callable, *args: object, size: tuple[float, float] = (6, 3.6), rows: int = 1, columns: int = 1,
          **settings: object) -> np.ndarray:
    "What a `plot_...` of an explorer draws, as uint8 [H, W, 3]; several axes go in flat"
    from matplotlib import style
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with style.context("covid_xray.course"):
        figure = Figure(figsize=size, dpi=80, layout="constrained")
        canvas = FigureCanvasAgg(figure)
        axes = figure.subplots(rows, columns)
        plot(axes if rows * columns == 1 else axes.flat, *args, **settings)
        canvas.draw()
    return np.asarray(canvas.buffer_rgba())[:, :, :3].copy()


def films() -> Iterator[Place]:
    from covid_xray.explore import data

    for number in range(1, 13):
        yield str(number), drawn(data.plot_film, number=number, size=(4.4, 4.4)), data.describe(number=number)


def augmentation() -> Iterator[Place]:
    from covid_xray.explore import augmentation as explorer

    for degrees in range(-30, 31, 6):
        picture = drawn(explorer.plot_change, degrees=degrees, size=(7, 3.7), columns=2)
        yield f"{degrees} degrees", picture, explorer.describe(degrees=degrees)


def layers() -> Iterator[Place]:
    from covid_xray.explore import cnn

    by_shape = {shape: layer for layer, shape in cnn.list_layers().items()}  # the last layer of each shape
    for layer in by_shape.values():
        picture = drawn(cnn.plot_maps, layers=[layer], size=(7.4, 3.8), columns=2)
        yield layer, picture, cnn.describe(layer=layer)


def learning_rates() -> Iterator[Place]:
    from covid_xray.explore import training

    for rate in sorted(training.load_curves()["learning_rate"].unique()):
        yield f"{rate:g}", drawn(training.plot_curves, rate), training.describe(rate)


def thresholds() -> Iterator[Place]:
    from covid_xray.explore import metrics

    for threshold in np.round(np.arange(0.05, 1, 0.1), 2):
        picture = drawn(metrics.plot_threshold, threshold=threshold, size=(10.2, 5.8), rows=2, columns=3)
        yield f"{threshold:.2f}", picture, metrics.describe(threshold=threshold)


def heatmaps() -> Iterator[Place]:
    from covid_xray.explore import gradcam

    for network in gradcam.SHIPPED:
        for method in ("gradcam", "layercam", "saliency"):  # HiResCAM equals Grad-CAM on these two networks
            settings = {"network": network, "method": method}
            picture = drawn(gradcam.plot_scores, size=(10.2, 2.8), columns=5, **settings)
            yield f"{network}, {method}", picture, gradcam.describe(**settings)


def leaks() -> Iterator[Place]:
    from covid_xray.explore import pitfalls
    from covid_xray.pitfalls import read_results

    for pitfall, rows in read_results().groupby("pitfall", sort=False):
        chosen = (pitfall, rows["model"].iloc[0], rows["strength"].max())
        rows = rows[rows["model"] == chosen[1]]
        chosen = (*chosen[:2], rows["strength"].max())
        yield str(pitfall), drawn(pitfalls.plot_bars, *chosen, size=(6, 2.4)), pitfalls.describe(*chosen)


def patients() -> Iterator[Place]:
    from covid_xray.explore import transfer

    for kind in transfer.FILMS:
        for count in sorted({int(number) for number in transfer.load_curves(kind)["patients"]}):
            yield f"{count}, {kind}", drawn(transfer.plot_curves, kind, count), transfer.describe(kind, count)


def crops() -> Iterator[Place]:
    from covid_xray.explore import deployment

    for crop in np.round(np.arange(1, 0.24, -0.1), 2):
        picture = drawn(deployment.plot_picture, crop=crop, size=(3.8, 4.1))
        yield f"{crop:.0%}", picture, deployment.describe(crop=crop)


def severities() -> Iterator[Place]:
    from covid_xray.explore import phantom

    for severity in np.round(np.arange(0, 1.01, 0.1), 1):
        picture = drawn(phantom.plot_film, severity=severity, size=(4.4, 4.4))
        yield f"{severity:.1f}", picture, phantom.describe(severity=severity)


TWINS: dict[str, tuple[str, str, Callable[[], Iterator[Place]], int]] = {  # notebook -> name of the dial, what, start
    "01_data.ipynb": ("film", "One simulated film, lungs and lesions outlined", films, 0),
    "02_augmentation.ipynb": ("turned by", "A simulated film before and after it is turned", augmentation, 7),
    "03_cnn.ipynb": ("layer", "A simulated film and what one layer of the network makes of it", layers, 0),
    "04b_tuning.ipynb": ("learning rate", "Validation loss against epochs at one learning rate", learning_rates, 2),
    "05_metrics.ipynb": ("threshold", "Scores, matrix, 10,000 people and three curves at one threshold", thresholds, 4),
    "06_gradcam.ipynb": ("network and method", "A film, its heatmap and what that scores", heatmaps, 0),
    "07_pitfalls.ipynb": ("pitfall", "Accuracy with the leak and without it", leaks, 0),
    "08a_comparison.ipynb": ("patients", "AUROC of each start at one number of patients", patients, 2),
    "09_deployment.ipynb": ("share of the film kept", "A cropped film and the predictor's word", crops, 0),
    "10_phantom.ipynb": ("severity", "A simulated film at one severity of disease", severities, 6),
}


def webp(picture: np.ndarray) -> str:
    "A picture as a data address, at most `WIDTH_PX` wide"
    from PIL import Image

    image, buffer = Image.fromarray(picture), io.BytesIO()
    image.thumbnail((WIDTH_PX, 10 * WIDTH_PX))
    image.save(buffer, "WEBP", quality=60, method=4)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()


def twin(name: str) -> str:
    "The twin of a notebook's explorer as HTML"
    dial, what, places, start = TWINS[name]
    found = [{"value": value, "src": webp(picture), "words": words, "alt": f"{what}; {dial}: {value}. "
              f"The numbers stand beside it as text."} for value, picture, words in places()]
    first, key = found[start], f"twin-{Path(name).stem}"
    stored = json.dumps(found, ensure_ascii=False).replace("<", "\\u003c")
    return (
        f'<div class="twin" role="group" aria-label="Explorer: {html.escape(what)}">'
        f'<label for="{key}">{html.escape(dial)}: <output>{html.escape(first["value"])}</output></label>'
        f'<input type="range" id="{key}" min="0" max="{len(found) - 1}" value="{start}" step="1" '
        f'aria-valuetext="{html.escape(first["value"])}">'
        f'<div><img alt="{html.escape(first["alt"])}" src="{first["src"]}">'
        f'<pre tabindex="0" aria-live="polite">{html.escape(first["words"])}</pre></div>'
        f'<p><small>One dial of the panel, drawn beforehand. Run the notebook for all of them. '
        f'For teaching and research, not a medical device.</small></p>'
        f'<script type="application/json">{stored}</script></div>'
    )


def add_twins(notebook: dict, name: str) -> dict:
    "A twin, or a word where there is none, as the output of each cell that shows a panel"
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code" and PANEL.search("".join(cell["source"])):
            shown = twin(name) if name in TWINS else NOT_LIVE
            cell["outputs"] = [{"output_type": "display_data", "metadata": {}, "data": {"text/html": shown}}]
    return notebook
