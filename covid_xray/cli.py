"""The command line: every command calls one function of the library. Heavy imports wait until a command needs them."""
from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Optional

import typer

app = typer.Typer(
    help="Deep learning on chest radiographs, a course and its library. Research and teaching only: no medical device.",
    rich_markup_mode=None, pretty_exceptions_enable=False, no_args_is_help=True, add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Source = Annotated[Optional[str], typer.Option(
    help="phantom, an open set (see covid-xray sources), a folder or a CSV. Default: $COVID_XRAY_SOURCE, or phantom.")]
Root = Annotated[Optional[Path], typer.Option(
    help="Folder of the films. Default: $COVID_XRAY_ROOT, else the cache folder.")]
Run = Annotated[str, typer.Argument(help="A run folder, as `covid-xray train` leaves it, or a shipped model.")]
Files = Annotated[list[Path], typer.Argument(help="Radiographs (PNG, JPEG, TIFF or DICOM), or folders of them.")]


def _version(wanted: bool) -> None:
    if wanted:
        from covid_xray import __version__

        typer.echo(f"covid_xray {__version__}")
        raise typer.Exit


@app.callback()
def options(
    debug: Annotated[bool, typer.Option("--debug", help="Show the whole traceback of an error.")] = False,
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="The version.")] = False,
) -> None:
    pass  # --debug is read by main, so that it may stand anywhere on the line


@app.command()
def train(
    out: Annotated[Path, typer.Option(help="Folder of the run.")],
    source: Source = None,
    root: Root = None,
    task: Annotated[str, typer.Option(help="three-class, covid-vs-rest, covid-vs-normal, pneumonia-vs-normal.")] = (
        "three-class"),
    classes: Annotated[Optional[str], typer.Option(help="Labels of your own instead of a task, with commas.")] = None,
    model: Annotated[str, typer.Option(help="plain or residual.")] = "residual",
    size: Annotated[int, typer.Option(min=32, help="Working size, pixels a side.")] = 128,
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the training films, at most.")] = 40,
    batch_size: Annotated[int, typer.Option(min=2, help="Films a step.")] = 16,
    learning_rate: Annotated[float, typer.Option(help="Highest rate of the cycle.")] = 2e-3,
    patience: Annotated[int | None, typer.Option(min=1, help="Stop after so many epochs without improvement.")] = None,
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Decides split, weights, order.")] = 0,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with an interrupted run in --out.")] = False,
) -> None:
    "Train on patient-wise parts and write model, log, metrics, predictions and figures into a folder."
    import pandas as pd

    from covid_xray.run import train_run

    history = train_run(out, source=source, root=root, task=task, classes=_words(classes), model=model, size_px=size,
                        epochs=epochs, batch_size=batch_size, learning_rate=learning_rate, patience=patience, seed=seed,
                        resume=resume)
    if history.stopped == "interrupted":
        done = len(history.rows)
        kept = f"the best weights are in {out}: " if done else ""
        typer.echo(f"\ninterrupted after {done} whole epochs; {kept}go on with the same command and --resume", err=True)
        raise typer.Exit(130)
    for report in sorted(out.glob("metrics_*.md")):
        typer.echo("\n" + report.read_text(encoding="utf-8"))
    unread = len(pd.read_csv(out / "set_aside.csv"))
    typer.echo(f"{unread} files could not be read, see {out / 'set_aside.csv'}." if unread else "Every film was read.")
    typer.echo(f"All of it is in {out}: model, log, predictions, metrics, figures.")


@app.command()
def evaluate(
    run: Annotated[str, typer.Argument(help="A run folder, as `covid-xray train` leaves it.")],
    source: Source = None,
    root: Root = None,
) -> None:
    "Test a run's model on a source, without the persons it has learnt from."
    from covid_xray.run import evaluate_run

    _, left_out = evaluate_run(run, source=source, root=root)
    newest = max(Path(run).glob("metrics_on_*.md"), key=lambda path: path.stat().st_mtime)
    typer.echo(newest.read_text(encoding="utf-8"))
    typer.echo(f"Written to {newest} ({left_out} films of known persons left out).")


@app.command()
def predict(
    run: Run,
    files: Files,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    prevalence: Annotated[Optional[float], typer.Option(min=0, max=1, help="Share of patients with the class of "
                          "interest where this is used: adds predictive values.")] = None,
    gate: Annotated[bool, typer.Option(help="Refuse what is no frontal chest radiograph.")] = True,
) -> None:
    "Decision, class probabilities and reasons for doubt of some films."
    from covid_xray.deploy import Predictor
    from covid_xray.guards import shown
    from covid_xray.run import DISCLAIMER

    files = _in_folders(files)
    found = Predictor.load(run, strict_gate=gate).predict([*files], prevalence=prevalence)
    aside = {str(path): result.flags[0].why for path, result in zip(files, found)
             if any(flag.name == "unreadable" for flag in result.flags)}
    told = {str(path): result for path, result in zip(files, found) if str(path) not in aside}
    if as_json:
        films = [{"path": path, **result.to_dict()} for path, result in told.items()]
        typer.echo(json.dumps({"disclaimer": DISCLAIMER, "films": films, "set_aside": aside}, indent=1))
    else:
        for path, result in told.items():
            typer.echo(f"{shown(path)}\n  " + "\n  ".join(result.lines()))
        typer.echo(DISCLAIMER)
    _report_aside(aside)


@app.command()
def export(
    run: Run,
    file: Annotated[Path, typer.Argument(help="The ONNX file to write.")],
) -> None:
    "Write a model with its preprocessing and calibration into one ONNX file."
    from covid_xray.deploy import Predictor
    from covid_xray.export import export_onnx

    predictor = Predictor.load(run)
    export_onnx(predictor, file)
    typer.echo(f"{file}: films uint8 [N, H, W] in, probabilities of {', '.join(predictor.classes)} out")
    if steps := predictor.settings.get("prepare"):
        typer.echo(f"before it, films need: {', '.join(steps)}")


@app.command()
def card(
    run: Run,
    out: Annotated[Optional[Path], typer.Option(help="Folder for the whole bundle, as a hub holds it.")] = None,
) -> None:
    "Print a model's card, made from what was measured; --out writes the whole bundle."
    from covid_xray.cards import model_card, save_pretrained

    if out is None:
        typer.echo(model_card(run))
    else:
        typer.echo(f"{save_pretrained(run, out)} holds weights, settings and card")


@app.command()
def explain(
    run: Run,
    files: Files,
    out: Annotated[Path, typer.Option(help="Folder for the pictures.")],
    method: Annotated[str, typer.Option(help="gradcam, or another method of chapter 6.")] = "gradcam",
    gate: Annotated[bool, typer.Option(help="Refuse what is no frontal chest radiograph.")] = True,
) -> None:
    "Write each film with the heatmap of the class the model names."
    from covid_xray.deploy import Predictor
    from covid_xray.run import DISCLAIMER, explain_files

    files = _in_folders(files)
    found = Predictor.load(run).predict([*files]) if gate else []
    refused = {str(path): f"refused: {result.flags[0].why}" for path, result in zip(files, found)
               if result.refused and result.flags[0].name != "unreadable"}
    pictures, aside = explain_files(run, [path for path in files if str(path) not in refused], out, method=method)
    for picture in pictures:
        typer.echo(picture)
    typer.echo(DISCLAIMER)
    _report_aside(refused | aside)


@app.command()
def sources() -> None:
    "List the sources: what they are, how many films, under which licence, and how they are had."
    from covid_xray.sources import SOURCES

    for source in SOURCES.values():
        count = f"{source.images:,} films" if source.images else "any number of films"
        typer.echo(f"{source.name}\n  {source.what}\n  {count}; {source.way}: {source.address}")
        typer.echo(f"  licence: {source.licence}")


@app.command()
def download(
    source: Annotated[str, typer.Argument(help="Name of an open set.")],
    folder: Annotated[Optional[Path], typer.Option(help="Where to put it. Default: the cache folder.")] = None,
) -> None:
    "Fetch an open set, each file checked by its checksum; files already there are not fetched again."
    from covid_xray.download import download as fetch

    typer.echo(f"{source} is in {fetch(source, folder)}")


@app.command()
def prepare(
    source: Annotated[str, typer.Argument(help="A source name, a folder, or a CSV.")],
    out: Annotated[Path, typer.Option(help="Where films, table.csv and set_aside.csv go.")],
    root: Root = None,
    size: Annotated[int, typer.Option(min=32, help="Working size, pixels a side.")] = 224,
    fit: Annotated[str, typer.Option(help="squash, pad or crop.")] = "squash",
    classes: Annotated[Optional[str], typer.Option(help="Labels of your own, with commas.")] = None,
) -> None:
    "Write decoded, oriented, resized films with their table and a report of what was set aside."
    from covid_xray.records import CLASSES
    from covid_xray.run import prepare as write
    from covid_xray.sources import load_table

    names = _words(classes) or CLASSES
    films = write(load_table(source, root, classes=names), out, size_px=size, fit=fit, classes=names)
    typer.echo(f"{len(films)} films in {out}; {len(films.skipped)} set aside, see {out / 'set_aside.csv'}")


@app.command()
def serve(
    model: Annotated[str, typer.Argument(help="A run folder, or the name of a shipped model.")] = "phantom",
    host: Annotated[str, typer.Option(help="Where to listen; any other address is seen by the network.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 picks a free one.")] = 8000,
    allow_host: Annotated[Optional[list[str]], typer.Option(help="A further name by which it may be called.")] = None,
    max_mb: Annotated[float, typer.Option(min=0.01, max=1000, help="Largest upload.")] = 40,
    in_hand: Annotated[int, typer.Option(min=1, help="Requests at once; one more is told to come again.")] = 8,
    at_once: Annotated[int, typer.Option(min=1, help="Films worked on at once, of those.")] = 1,
) -> None:
    "Answer to POST /predict over HTTP, with /health and /metrics beside it."
    from covid_xray.exchange import Limits
    from covid_xray.service import serve as run

    if max_mb != max_mb:
        raise ValueError("--max-mb is no number")
    limits = Limits(max_bytes=int(max_mb * 1e6), in_hand=in_hand, at_once=at_once)
    run(model, host=host, port=port, hosts=allow_host or (), limits=limits)


@app.command()
def doctor() -> None:
    "Say what is installed, what is missing, and what to do about it."
    from covid_xray.doctor import examine

    findings = examine()
    for finding in findings:
        typer.echo(f"{finding.state:8}{finding.what}" + (f"\n{'':8}-> {finding.remedy}" if finding.remedy else ""))
    problems = sum(finding.state == "problem" for finding in findings)
    typer.echo(f"\n{problems} problems" if problems else "\nall well")
    if problems:
        raise typer.Exit(1)


@app.command()
def course(
    folder: Annotated[Path, typer.Argument(help="Where the chapters go.")],
    edition: Annotated[str, typer.Option(help="learner, student (without solutions), instructor or nbgrader.")] = (
        "learner"),
) -> None:
    "Copy the chapters into a folder of yours; a file you have changed is never overwritten."
    from covid_xray.course import copy_course

    result = copy_course(folder, edition)
    what = "assignments" if edition == "nbgrader" else "notebooks"
    copied, present = (sum(name.endswith(".ipynb") for name in result[key]) for key in ("copied", "unchanged"))
    typer.echo(f"{copied} {what} copied to {folder}, {present} were there already")
    for name in result["kept"]:
        typer.echo(f"kept your changed {name}")
    typer.echo(f"Hand them out with: nbgrader generate_assignment chapter1 --course-dir={folder.resolve()}"
               if edition == "nbgrader" else f"Open them with: jupyter lab {folder}")


def _words(text: str | None) -> tuple[str, ...] | None:
    "Words parted by commas"
    return tuple(word.strip() for word in text.split(",") if word.strip()) if text else None


def _in_folders(files: list[Path]) -> list[Path]:
    "The same files, with each folder replaced by the films below it; what is no film there is counted"
    from covid_xray.guards import shown
    from covid_xray.records import film_files

    films = []
    for path in files:
        found, left_out = film_files(path) if path.is_dir() else ([path], {})
        counted = ", ".join(f"{reason}: {count}" for reason, count in left_out.items())
        if not found:
            raise FileNotFoundError(f"no films in the folder {path}" + (f" (left out: {counted})" if counted else ""))
        if counted:
            typer.echo(f"left out of {shown(path)}: {counted}", err=True)
        films += found
    return films


def _report_aside(aside: dict[str, str]) -> None:
    "Name the files that could not be read, and end with 1 where there are any"
    from covid_xray.guards import shown

    for path, reason in aside.items():
        typer.echo(f"set aside: {shown(path)}: {shown(reason)}", err=True)
    if aside:
        raise typer.Exit(1)


def main() -> None:
    "Run the command line; an error is one line that names the fix, with --debug a traceback"
    debug = "--debug" in sys.argv
    sys.argv = [word for word in sys.argv if word != "--debug"]
    try:
        app(prog_name="covid-xray")
    except Exception as error:
        if debug:
            raise
        from covid_xray.guards import shown

        first = str(error).strip().splitlines() or [""]
        typer.echo(f"covid-xray: {type(error).__name__}: {shown(first[0])}", err=True)
        sys.exit(1)
