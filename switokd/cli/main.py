"""The command line: parse, call, print. What a user can mend ends with one message and status 2."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from rich.table import Table

from switokd import names
from switokd.cli import inspect_networks as cli_runs
from switokd.cli import pack_data as cli_data
from switokd.cli.terminal import console
from switokd.spec.experiment import Experiment, load_experiment
from switokd.spec.trial import TrialSpec
from switokd.validation import DataError, SpecError, known_name

if TYPE_CHECKING:
    from switokd.session.trial_session import TrialSession

FAILED, WRONG_INPUT, INTERRUPTED = 1, 2, 130
RUNS = Path("runs")


app = typer.Typer(
    help="Run, track and compare switchable online knowledge distillation.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.add_typer(cli_data.app, name="data")

ExperimentFile = Annotated[
    Path, typer.Argument(metavar="EXPERIMENT.yaml", help="what to train", show_default=False)
]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="KEY=VALUE", help="override keys of the file: recipe.epochs=2"),
]


def main(arguments: list[str] | None = None) -> NoReturn:
    """The entry point: exceptions of ours become messages and statuses."""
    os.environ["SWITOKD_DATA"] = str(Path(os.environ.get("SWITOKD_DATA") or "data").absolute())
    try:
        # not standalone, it returns the status of a typer.Exit instead of leaving with it
        status = app(arguments, standalone_mode=False)
    except (KeyboardInterrupt, typer.Abort):
        status = INTERRUPTED
    except Exception as error:
        if hasattr(error, "show") and hasattr(error, "exit_code"):
            error.show()
            sys.exit(error.exit_code)
        if isinstance(error, SpecError | DataError):
            _stop(str(error), WRONG_INPUT)
        raise
    if status == INTERRUPTED:
        _stop("interrupted", INTERRUPTED)
    sys.exit(status if isinstance(status, int) else 0)


def _stop(message: str, status: int) -> NoReturn:
    print(f"switokd: {message}", file=sys.stderr)
    sys.exit(status)


@app.command()
def sweep(
    experiment: ExperimentFile,
    overrides: Overrides = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="train no trial; print them all and what they would cost"),
    ] = False,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="run all anew; the old runs are deleted restorably")
    ] = False,
) -> None:
    """Train every trial that has not finished yet, and compare."""
    spec = load_experiment(experiment, overrides or [])
    if dry_run:
        from tuning.cost.estimate import dry_run as print_plan

        print_plan(spec, console)
        return
    from tuning.sweep import sweep as run_sweep

    own_process = sys.argv[1:2] == ["sweep"]
    going_on = [a for a in sys.argv[1:] if a != "--fresh"] if own_process else None
    failures = run_sweep(spec, runs=RUNS, console=console, fresh=fresh, again=going_on)
    by_id = {trial.trial_id: trial for trial in spec.trials}
    for trial_id, reason in failures.items():
        # a search finds trials that the file does not name
        known = by_id.get(trial_id)
        _err(f"failed: {known.label if known else trial_id}: {reason.strip()}")
        if known:
            again = " ".join([str(experiment), *(overrides or []), "--trial", trial_id])
            _err(f"  run it again alone: switokd train {again}")
        else:
            _err("  the same command tries it again")
    _print_comparison(spec.name, None)
    console.print("Browse every trial: make ui    See the pairs: make dashboard", highlight=False)
    if failures:
        raise typer.Exit(FAILED)


def _err(line: str) -> None:
    print(line, file=sys.stderr)


@app.command()
def train(
    experiment: ExperimentFile,
    overrides: Overrides = None,
    trial: Annotated[
        str | None, typer.Option(metavar="ID_PREFIX", help="which, of a file with several trials")
    ] = None,
) -> None:
    """Train one trial in this process, as a sweep's worker would."""
    spec = load_experiment(experiment, overrides or [])
    chosen = choose_trial(spec, trial, experiment)
    from switokd.files.lock import writable
    from switokd.session.continuation import shorter_trials
    from switokd.session.trial_session import open_session
    from switokd.tracking import tracker as tracking
    from switokd.tracking.tracker import TrialTracker
    from switokd.training.timeline import DivergedError

    writable(RUNS)
    store = tracking.open_experiment(spec.name, runs=RUNS)
    console.print(f"{chosen.trial_id} {chosen.label}", highlight=False)
    runs = store.trial_runs()
    run = runs.get(chosen.trial_id)
    if run is not None and run.info.status == "FINISHED":
        console.print("finished before: not trained again (switokd sweep --fresh runs all anew)")
        _print_summary(run.data.metrics)
        console.print(f"run {run.info.run_id}", highlight=False)
        return
    result = None
    # a trial is the child of its experiment's sweep, whoever trains it
    store = tracking.open_sweep(store, spec.name, reopen=False)
    candidate = spec.points.get(chosen.trial_id) if spec.search.draws else None
    tracker = TrialTracker(store, chosen, candidate.point if candidate else None)
    finished = {key: r.data.params for key, r in runs.items() if r.info.status == "FINISHED"}
    continues = shorter_trials([chosen], finished).get(chosen.trial_id, [])
    try:
        with open_session(chosen, runs=RUNS, tracker=tracker, continues=continues) as session:
            _stop_orderly_on_interrupt(session)
            for report in session.epochs():
                values = "  ".join(
                    f"{name} {scores.top1:.2f} %" for name, scores in report.scores.items()
                )
                console.print(
                    f"epoch {report.epoch}/{session.trainer.epochs}  top-1 {values}  "
                    f"{report.images_per_second:.0f} images/s",
                    highlight=False,
                )
            if session.done:
                result = session.finish()
    except (DivergedError, OSError) as error:
        _err(f"failed: {chosen.label}: {error}")
        raise typer.Exit(FAILED) from None
    if result is None:
        _err("a checkpoint is kept: the same command goes on from it")
        raise typer.Exit(INTERRUPTED)
    _print_summary(result.metrics)
    console.print(f"run {result.run_id}, files in {result.folder}", highlight=False, soft_wrap=True)


def _print_summary(metrics: dict[str, float]) -> None:
    for name, value in sorted(metrics.items()):
        if names.quantity_of(name) in names.SUMMARY:
            console.print(f"{name:28} {value:.4g}", highlight=False)


def _stop_orderly_on_interrupt(session: TrialSession) -> None:
    def request_stop(signum: int, frame: Any) -> None:
        session.stop_requested = True
        # a second one stops at once
        signal.signal(signum, signal.default_int_handler)

    for request in (signal.SIGINT, signal.SIGTERM):
        signal.signal(request, request_stop)


def choose_trial(spec: Experiment, prefix: str | None, file: Path) -> TrialSpec:
    """The one trial meant; raises SpecError with the list of trials where it is not one."""
    matching = [t for t in spec.trials if prefix is None or t.trial_id.startswith(prefix)]
    if len(matching) == 1:
        return matching[0]
    problem = (
        f"{file} expands to {len(matching)} trials; choose one with --trial ID_PREFIX"
        if prefix is None
        else f"--trial {prefix!r} matches {len(matching)} trials of {file}"
    )
    listed = "\n".join(f"  {t.trial_id}  {t.label}" for t in matching or spec.trials)
    raise SpecError(f"{problem}:\n{listed}")


@app.command()
def compare(
    experiment: Annotated[
        str | None,
        typer.Argument(metavar="EXPERIMENT_NAME", help="default all", show_default=False),
    ] = None,
    baseline: Annotated[
        str, typer.Option(metavar="NAME", help="the method or variant to take differences from")
    ] = "vanilla",
    csv: Annotated[
        Path | None, typer.Option(metavar="FILE", help="write the comparison as CSV")
    ] = None,
    html: Annotated[
        Path | None, typer.Option(metavar="FILE", help="write it with its figures as one page")
    ] = None,
    latex: Annotated[
        Path | None, typer.Option(metavar="FILE", help="write it as a LaTeX table")
    ] = None,
) -> None:
    """Compare teacher-student pairs, from what is tracked."""
    frame = _print_comparison(experiment, baseline)
    from dashboards.reports.csv_table import comparison_csv
    from dashboards.reports.html_report import write_report
    from dashboards.reports.latex_table import latex_table
    from dashboards.store.runs import RunFrames

    for path, render in ((csv, comparison_csv), (latex, latex_table)):
        if path is not None:
            with _writing(path):
                path.write_text(render(frame), encoding="utf-8")
    if html is not None:
        with _writing(html):
            write_report(RunFrames(), html, experiment, baseline)


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise SpecError(f"{path}: cannot be written ({error.strerror})") from None


def _print_comparison(experiment: str | None, baseline: str | None) -> Any:
    from dashboards.analysis.comparison import comparison_frame, comparison_notes
    from dashboards.reports.terminal_table import print_comparison
    from dashboards.store.runs import RunFrames

    trials = RunFrames().trials(experiment)
    if baseline not in (None, "vanilla"):
        known_name("baseline", baseline, {*trials["method"], *trials["variant"]})
    frame = comparison_frame(trials, **({"baseline": baseline} if baseline else {}))
    print_comparison(frame, console, comparison_notes(trials))
    return frame


app.command()(cli_runs.evaluate)
app.command()(cli_runs.export)


@app.command()
def explain(
    run_id: cli_runs.RunId,
    images: Annotated[int, typer.Option(min=1, max=50, help="how many to show")] = 8,
    weights: cli_runs.Weights = cli_runs.WhichWeights.best,
) -> None:
    """Show where teacher and student look (Grad-CAM)."""
    paths = cli_runs.fetch_weights(run_id, None, weights)
    from dashboards.figures import heat_maps
    from switokd.files.lock import writable
    from switokd.inspection import explain as grad_cam
    from switokd.inspection.weights import read_weights
    from switokd.tracking import tracker as tracking
    from switokd.training.build import choose_device

    stored = {name: read_weights(path) for name, path in paths.items()}
    explanation = grad_cam.explain(stored, images, choose_device("auto"))
    shown_as = {name: f"{name} {model}" for name, model in explanation.models.items()}
    overlays = heat_maps.overlay_figure(
        explanation.images, explanation.maps, shown_as, explanation.classes
    )
    surfaces = heat_maps.surface_figure(explanation.maps, shown_as, explanation.classes)
    numbers = explanation.numbers()
    folder = writable(RUNS) / "explain" / run_id
    files = {
        "heat_maps.png": heat_maps.png(overlays),
        "surfaces.html": heat_maps.surface_page(surfaces).encode(),
        names.HEAT_MAPS_FILE: explanation.arrays(),
        names.AGREEMENT_FILE: json.dumps(numbers, indent=2).encode(),
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    tracking.log_folder(run_id, folder, names.EXPLAIN_FOLDER)
    for name, value in numbers.items():
        console.print(f"{name:28} {value:.4g}", highlight=False)
    console.print(f"in the run's artifacts and in {folder}", highlight=False, soft_wrap=True)


@app.command()
def models() -> None:
    """List the networks: name, parameters, reference."""
    from switokd.models import describe

    table = Table("name", "classes", "parameters", "reference", box=None, header_style="bold")
    for card in describe():
        table.add_row(card.name, str(card.nominal_classes), f"{card.parameters:,}", card.reference)
    console.print(table)
