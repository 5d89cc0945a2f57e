"""The web app: a film in; probabilities, decision, heatmap and doubts out. `make app` shows it under Voila.

In a notebook: `from covid_xray.explore.app import panel; panel()`. Its text twin is `describe(content)`. What is
uploaded stays in memory until the next film, and is written nowhere.
"""

from __future__ import annotations

import base64
import functools
import html
import io
import logging
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from covid_xray import phantom
from covid_xray.deploy import Predictor, Result, decide
from covid_xray.exchange import Limits, Problem, check_kind, harmless, overlay_png
from covid_xray.explore.parts import import_ipywidgets, png
from covid_xray.metrics import predictive_values
from covid_xray.run import DISCLAIMER

if TYPE_CHECKING:
    from ipywidgets import VBox

__all__ = ["BROWSER_LIMIT", "describe", "examples", "look", "panel", "report", "sentences", "uploaded"]

MAX_BYTES = Limits.max_bytes
NO_FILM = "not a chest film"
STYLE = """<style>
.cx-bar {background: #e8e8e8; height: 1em; width: 12em; max-width: 45vw} .cx-bar div {background: #4477aa; height: 1em}
.cx td {padding: 0 .6em .2em 0; text-align: left} .cx p {line-height: 1.4; margin: .4em 0; max-width: 40em}
.cx .no, .cx .mind {border-left: 4px solid #aa3377; padding-left: .6em} .cx .mind {border-color: #ccbb44}
.cx img {width: 100%; max-width: 420px; background: black} .cx a {text-decoration: underline}
</style>"""
# Beyond the server's own limit a browser loses its connection without a word; so a page asks before it sends.
BROWSER_LIMIT = """<script>
if (!window.covidXrayLimit) {
  const read = FileReader.prototype.readAsArrayBuffer;
  FileReader.prototype.readAsArrayBuffer = function (file) {
    if (file.size <= %d) return read.call(this, file);
    const told = document.querySelector(".cx-told");
    if (told) told.textContent = "%s";
    this.dispatchEvent(new Event("error"));
  };
  window.covidXrayLimit = true;
}
</script>"""
TOO_LARGE = f"too large: {MAX_BYTES / 1e6:g} MB are the most"


@functools.cache
def examples() -> Mapping[str, bytes]:  # what it shows -> a PNG file
    "Simulated films to begin with, one of each class, and a picture that is none"
    films = phantom.simulate(24, size_px=256, seed=12, follow_up=0)
    first = {label: list(films.table["label"]).index(label) for label in phantom.CLASSES}
    made = {f"simulated: {label}": png(films.images[row]) for label, row in first.items()}
    across = np.linspace(0, 255, 256).astype(np.uint8)
    sunset = np.stack([np.tile(across[:, None], 256), np.full((256, 256), 90, np.uint8), np.tile(across, (256, 1))], 2)
    return made | {NO_FILM: png(sunset)}


def look(
    predictor: Predictor,  # that is asked
    content: bytes,  # a film's file
) -> Result:  # with its heatmap, where the film is not refused
    "Ask for one film. Raises Problem, with a sentence for the reader, where it can't be read"
    if len(content) > MAX_BYTES:
        raise Problem(413, TOO_LARGE, "too_large")
    check_kind(content)
    log = logging.getLogger("pydicom")
    before, log.disabled = log.disabled, True  # decoders' warnings quote the file
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            result = predictor.predict(content, explain=True)
    finally:
        log.disabled = before
    for flag in result.flags:
        if flag.name == "unreadable":
            raise Problem(422, f"this film can't be read: {harmless(flag.why, content)}", "unreadable")
    return result


def _share(found: Mapping[str, Any]) -> str:
    return f"{found['value']:.0%} ({found['low']:.0%} to {found['high']:.0%}, {found['persons']} persons)"


def _point_sentences(point: Mapping[str, Any], threshold: float, prevalence: float) -> list[str]:
    "What the threshold costs, and what a positive and a negative answer mean at a prevalence"
    label = point["label"]
    if "threshold" not in point:
        return ["No operating point was measured for this model: the largest probability decides."]
    if abs(threshold - point["threshold"]) > 0.0051:  # half a step of the slider
        return [f"From {threshold:.2f} on it is called {label}. What this threshold finds and misses was never "
                f"measured; the model's own is {point['threshold']:.2f}."]
    shares = point["sensitivity"]["value"], point["specificity"]["value"]
    positive, negative = predictive_values(*shares, prevalence)
    sick = 1000 * prevalence
    return [f"Operating point: {label} from {point['threshold']:.2f} on. On the model's own validation films it finds "
            f"{_share(point['sensitivity'])} of {label}, and leaves {_share(point['specificity'])} of the others "
            "alone.",
            f"Where {sick:.0f} of 1,000 people have it, it calls {sick * shares[0]:.0f} of them rightly and "
            f'{(1000 - sick) * (1 - shares[1]):.0f} others wrongly. So "{label}" is right {positive:.0%} of the times '
            f'that it is said, and "not {label}" {negative:.1%} of the times.']


def sentences(
    result: Result,  # of `look`
    threshold: float,  # from which probability on the class of interest is named
    prevalence: float,  # share of people with it, above 0 and below 1
) -> list[str]:  # plain text, the decision first
    "All that is said of a film"
    doubts = [f"{flag.name}: {flag.why}" for flag in result.flags]
    if result.probabilities is None:
        return ["Not judged: this does not look like a frontal chest radiograph.", *doubts]
    point = {**result.operating_point, "threshold": threshold} if "threshold" in result.operating_point else {}
    decision = decide(result.probabilities, point)
    return [f"Called {decision}.", *doubts, result.uncertainty,
            *_point_sentences(result.operating_point, threshold, prevalence)]


def _start(result: Result) -> float:
    return result.operating_point.get("threshold", 0.5)


def describe(
    content: bytes,  # a film's file
    model: str | Path = "phantom",  # see `Predictor.load`
    *,
    threshold: float | None = None,  # None: the model's own
    prevalence: float = 0.05,  # share of people with the class of interest
) -> str:  # what the panel says
    "The app's text twin. Raises Problem where the film can't be read"
    result = look(Predictor.load(model), content)
    chances = [f"{name} {value:.1%}" for name, value in (result.probabilities or {}).items()]
    chosen = _start(result) if threshold is None else threshold
    return "\n".join([*chances, *sentences(result, chosen, prevalence), DISCLAIMER])


def _picture(result: Result, strength: float, words: str) -> str:
    "The film under its heatmap, as the model sees it"
    image = np.zeros((64, 64), np.uint8) if result.image is None else result.image
    data = base64.b64encode(overlay_png(image, result.heatmap, strength)).decode()
    return f'<img src="data:image/png;base64,{data}" alt="{html.escape(words)}">'


def _alt(result: Result, strength: float) -> str:
    if result.heatmap is None:
        return "The film as the model sees it, without a heatmap, since it was not judged"
    row, column = np.unravel_index(np.nanargmax(result.heatmap), result.heatmap.shape)
    rows, columns = result.heatmap.shape
    where = f"{('upper', 'middle', 'lower')[3 * row // rows]} {('left', 'middle', 'right')[3 * column // columns]}"
    shown = f"its heatmap is highest in the {where} of the picture" if strength else "its heatmap is switched off"
    return f"The film as the model sees it; {shown}"


def _bars(result: Result) -> str:
    "Probabilities as bars and numbers"
    bar = '<div class="cx-bar"><div style="width:{:.1%}"></div></div>'
    rows = "".join(f"<tr><td>{html.escape(name)}</td><td>{bar.format(value)}</td><td>{value:.1%}</td></tr>"
                   for name, value in (result.probabilities or {}).items())
    return f"<table>{rows}</table>" if rows else ""


def _words(result: Result, threshold: float, prevalence: float) -> str:
    "The sentences as HTML; what refuses or warns is marked"
    first, *rest = (html.escape(line, quote=False) for line in sentences(result, threshold, prevalence))
    kinds = ["no" if flag.severity == "refuse" else "mind" for flag in result.flags] + [""] * len(rest)
    marked = "".join(f'<p class="{kind}">{line}</p>' for kind, line in zip(kinds, rest))
    return f"{_bars(result)}<p><b>{first}</b></p>{marked}"


def report(
    result: Result,  # of `look`
    threshold: float,  # see `sentences`
    prevalence: float,  # see `sentences`
    model: str | Path = "phantom",  # its name, for the reader
    strength: float = 0.5,  # of the heatmap, 0 to 1
) -> str:  # an HTML page that needs nothing else
    "A page to keep: picture, numbers, doubts and the notice; no name, no date, no path"
    body = _picture(result, strength, _alt(result, strength)) + _words(result, threshold, prevalence)
    warning = "Names that are burnt into the picture are still in it: look before you pass this on."
    head = f'<head><meta charset="utf-8"><title>covid_xray: one film</title>{STYLE}</head>'
    notice, named = f"<p><b>{DISCLAIMER}</b></p>", f"<p>Model: {html.escape(Path(model).name)}.</p>"
    return (f'<!doctype html><html lang="en">{head}<body class="cx"><h1>One film</h1>{notice}{named}{body}'
            f"<p>{warning}</p>{notice}</body></html>")


def uploaded(
    value: Any,  # of a FileUpload widget: a dict in ipywidgets 7, a tuple in 8
) -> bytes | None:  # the file's content; None where there is none
    "The uploaded file, whichever ipywidgets there is"
    entries = list(value.values() if isinstance(value, dict) else value)
    return bytes(entries[-1]["content"]) if entries else None


def _forget(upload: Any) -> None:
    "Take an upload out of its widget"
    if isinstance(upload.value, dict):  # ipywidgets 7
        upload.data, upload.metadata, upload._counter = [], [], 0
    else:
        upload.value = ()


class _App:
    "The panel's parts, and what moves them"

    def __init__(self, model: str | Path) -> None:
        widgets = import_ipywidgets()
        self.model, self.predictor, self.result = model, Predictor.load(model), None
        wide = {"style": {"description_width": "8em"}, "layout": widgets.Layout(width="24em", max_width="98%")}
        self.told, self.film, self.words, self.link = (widgets.HTML() for _ in range(4))
        self.upload = widgets.FileUpload(description="Upload a film", multiple=False,
                                         layout=widgets.Layout(width="auto"))
        self.threshold = widgets.FloatSlider(min=0, max=1, step=0.01, description="threshold", readout_format=".2f",
                                             continuous_update=False, **wide)
        self.prevalence = widgets.FloatLogSlider(value=0.05, base=10, min=-3, max=-0.3, step=0.1, readout_format=".3f",
                                                 description="prevalence", continuous_update=False, **wide)
        self.strength = widgets.FloatSlider(value=0.5, min=0, max=1, step=0.1, description="heatmap",
                                            continuous_update=False, **wide)
        self.upload.observe(self.take_upload, "value")
        for slider in (self.threshold, self.prevalence, self.strength):
            slider.observe(self.draw, "value")

    def box(self) -> VBox:
        "The panel: buttons above, the film beside what is said of it"
        from IPython.display import HTML

        widgets = import_ipywidgets()
        buttons = [widgets.Button(description=name, layout=widgets.Layout(width="auto")) for name in examples()]
        for button in buttons:
            button.on_click(lambda button: self.show(examples()[button.description]))
        wrap = widgets.Layout(flex_flow="row wrap", align_items="flex-start")
        left = widgets.VBox([self.film, self.strength], layout=widgets.Layout(width="440px", max_width="100%"))
        right = widgets.VBox([self.words, self.threshold, self.prevalence, self.link],
                             layout=widgets.Layout(width="44em", max_width="100%"))
        limit = widgets.Output()
        limit.append_display_data(HTML(BROWSER_LIMIT % (MAX_BYTES, TOO_LARGE)))
        return widgets.VBox([widgets.HTML(f'{STYLE}<div class="cx"><p><b>{DISCLAIMER}</b></p></div>'),
                             widgets.HBox([self.upload, *buttons], layout=wrap), self.told,
                             widgets.HBox([left, right], layout=wrap), limit])

    def take_upload(self, _: Any) -> None:
        "A new file is here: forget it in the widget, then look at it"
        content = uploaded(self.upload.value)
        if content is not None:
            _forget(self.upload)
            self.show(content)

    def show(self, content: bytes) -> None:
        "Look at a film; what can't be read gets a sentence and leaves the last film in place"
        self.say("Looking ...")
        try:
            self.result = look(self.predictor, content)
        except Problem as problem:
            self.say(f"{str(problem).rstrip('.')}. {'' if self.result is None else 'Below is still the film before.'}")
            return
        except Exception as error:
            self.say(f"The fault is on this side, not in your film ({type(error).__name__}).")
            return
        self.say("")
        self.threshold.value = round(_start(self.result), 2)
        self.draw()

    def say(self, words: str) -> None:
        "Beside the buttons"
        self.told.value = f'<div class="cx"><p class="no cx-told" role="status">{html.escape(words)}</p></div>'

    def draw(self, _: Any = None) -> None:
        "The film, the words and the report as the sliders say"
        if self.result is None:
            return
        chosen, strength = (self.threshold.value, self.prevalence.value), self.strength.value
        self.film.value = f'<div class="cx">{_picture(self.result, strength, _alt(self.result, strength))}</div>'
        self.words.value = f'<div class="cx">{_words(self.result, *chosen)}</div>'
        page = base64.b64encode(report(self.result, *chosen, self.model, strength).encode()).decode()
        self.link.value = (f'<div class="cx"><a download="covid_xray_report.html" href="data:text/html;base64,{page}">'
                           "Download this as a report</a></div>")


def panel(
    model: str | Path = "phantom",  # see `Predictor.load`
) -> VBox:  # the whole app
    "The web app, with a first film in it. Raises what `Predictor.load` raises, ModuleNotFoundError without ipywidgets"
    app = _App(model)
    box = app.box()
    app.show(next(iter(examples().values())))
    return box
