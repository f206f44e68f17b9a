"""`switokd sweep` and `switokd train`: many trials on Ray Tune, or one in this process."""

from __future__ import annotations

import shlex
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from switokd import names
from switokd.cli.arguments import (
    FAILED,
    INTERRUPTED,
    RUNS,
    ExperimentFile,
    Overrides,
    complain,
    data_of,
)
from switokd.cli.compare import print_comparison
from switokd.cli.terminal import console
from switokd.spec.experiment import Experiment, load_experiment
from switokd.spec.trial import TrialSpec
from switokd.validation import SpecError

if TYPE_CHECKING:
    from switokd.session.trial_session import TrialSession
    from switokd.tracking.holder import Holder
    from switokd.tracking.store import TrackedExperiment
    from tuning.plan import Plan


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

        with data_of(experiment):
            print_plan(spec, console)
        return
    from tuning.sweep import sweep as run_sweep

    own_process = sys.argv[1:2] == ["sweep"]
    going_on = [a for a in sys.argv[1:] if a != "--fresh"] if own_process else None
    try:
        with data_of(experiment):
            failures = run_sweep(spec, runs=RUNS, console=console, fresh=fresh, again=going_on)
    except KeyboardInterrupt:
        again = shlex.join(["switokd", *going_on]) if going_on else "the same call"
        complain("finished trials are tracked, the others keep their checkpoints")
        complain(f"  this goes on from there: {again}")
        raise typer.Exit(INTERRUPTED) from None
    by_id = {trial.trial_id: trial for trial in spec.trials}
    for trial_id, reason in failures.items():
        # a search finds trials that the file does not name
        known = by_id.get(trial_id)
        complain(f"failed: {known.label if known else trial_id}: {reason.strip()}")
        if known:
            again = shlex.join([str(experiment), *(overrides or []), "--trial", trial_id])
            complain(f"  run it again alone: switokd train {again}")
        else:
            complain("  the same command tries it again")
    frame = print_comparison(spec.name)
    _track_result(spec.name, experiment, overrides or [], frame)
    console.print("Browse every trial: make ui    See the pairs: make dashboard", highlight=False)
    if failures:
        raise typer.Exit(FAILED)


def _track_result(name: str, file: Path, overrides: list[str], frame: Any) -> None:
    """Leave the result with the sweep's run, where who browses MLflow finds it."""
    from dashboards.analysis.best_rows import best_rows
    from dashboards.analysis.finding import finding
    from dashboards.figures.comparison_figures import interval_figure
    from dashboards.reports.csv_table import comparison_csv
    from switokd.tracking.retry import TrackingError
    from switokd.tracking.store import find_experiment
    from switokd.tracking.tracker import log_result

    changed = "".join(f"# with {override}\n" for override in overrides)
    try:
        files = {
            names.EXPERIMENT_FILE: changed + file.read_text(encoding="utf-8-sig"),
            names.COMPARISON_FILE: comparison_csv(frame),
            # with plotly's own code: who browses a cluster's store may have no way to the internet
            names.COMPARISON_FIGURE: interval_figure(frame).to_html(),
        }
        tracked = find_experiment(name)
        if tracked is not None:
            log_result(tracked, name, finding(frame), files, best_rows(frame))
    except (TrackingError, OSError) as error:
        # hours of training have ended well; the file may have moved meanwhile
        console.print(f"the result is not tracked: {error}", soft_wrap=True)


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
    from switokd.session.failures import RankFailedError, RankLostError
    from switokd.session.trial_session import open_session
    from switokd.tracking import tracker as tracking
    from switokd.tracking.holder import Holder
    from switokd.tracking.store import TrackingStore
    from switokd.tracking.tracker import TrialTracker
    from switokd.training.timeline import DivergedError
    from tuning.plan import make_plan
    from tuning.preflight import check_outside

    writable(RUNS)
    tracked = tracking.open_experiment(spec.name, runs=RUNS)
    console.print(f"{chosen.trial_id} {chosen.label}", highlight=False)
    plan = make_plan(spec, tracked)
    run_id = plan.run_ids.get(chosen.trial_id)
    if run_id is not None:
        console.print("finished before: not trained again (switokd sweep --fresh runs all anew)")
        _print_summary(TrackingStore(tracked.uri).run(run_id).data.metrics)
        console.print(f"run {run_id}", highlight=False)
        return
    _check_taught(chosen, plan, shlex.join([str(experiment), *(overrides or [])]))
    check_outside([chosen])
    result = None
    # a trial is the child of its experiment's sweep, whoever trains it
    tracked = tracking.open_sweep(tracked, spec.name, reopen=False)
    holder = Holder(spec.name, RUNS / spec.name, chosen.trial_id)
    tracker = TrialTracker(tracked, chosen, plan.points.get(chosen.trial_id))
    continues = plan.continues.get(chosen.trial_id, [])
    try:
        with (
            _held(holder, tracked),
            data_of(experiment),
            open_session(chosen, runs=RUNS, tracker=tracker, continues=continues) as session,
        ):
            # to open it has taken its time: who claimed at the same moment is seen by now
            holder.confirm()
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
    except (DivergedError, OSError, RankFailedError) as error:
        complain(f"failed: {chosen.label}: {error}")
        raise typer.Exit(FAILED) from None
    except RankLostError as error:
        complain(f"stopped: {chosen.label}: {error}; the same command goes on from a checkpoint")
        raise typer.Exit(FAILED) from None
    if result is None:
        complain("a checkpoint is kept: the same command goes on from it")
        raise typer.Exit(INTERRUPTED)
    _print_summary(result.metrics)
    console.print(f"run {result.run_id}, files in {result.folder}", highlight=False, soft_wrap=True)


@contextmanager
def _held(holder: Holder, tracked: TrackedExperiment) -> Iterator[None]:
    """Hold a trial while it is trained. Raises HeldError."""
    with holder:
        holder.claim(tracked)
        yield


def _check_taught(trial: TrialSpec, plan: Plan, asked: str) -> None:
    """Raise SpecError where a teacher of the trial has not been trained.

    `asked`: the experiment's file as the command has it, and what it changes in it.
    """
    for name, teacher in trial.trained_by.items():
        if teacher not in plan.values:
            raise SpecError(
                f"{trial.trial_id} {trial.label}: its teacher {name} "
                f"({trial.networks[name].label}) has not been trained yet; this does it:\n"
                f"  switokd train {asked} --trial {teacher}"
            )


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
