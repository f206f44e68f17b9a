"""What a sweep is said to cost before it runs; afterwards, how that compares with the truth."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from switokd.files.sizes import format_bytes
from switokd.files.storage import write_durably
from switokd.spec.experiment import Experiment
from switokd.spec.tracked_params import EPOCHS
from switokd.spec.trial import TrialSpec
from switokd.tracking.store import find_experiment
from tuning.cost.measurement import Estimate, estimate
from tuning.placement import Placement
from tuning.plan import Plan, make_plan
from tuning.summary import print_what_tunes_it
from tuning.told_apart import told_apart

ESTIMATE_FILE = "estimate.json"
LEAST_COMPARED_SECONDS = 60.0


def dry_run(experiment: Experiment, console: Console, runs: Path = Path("runs")) -> None:
    """Print the trials and, from a few timed steps, their cost; trains nothing.

    The estimate is kept under `runs`, for the sweep to be compared with.
    """
    plan = make_plan(experiment, find_experiment(experiment.name))
    print_trials(plan, console)
    print_what_tunes_it(experiment, console)
    with console.status("") as status:
        cost = estimate(
            experiment,
            plan,
            lambda trial, number, of: status.update(
                f"timing a few steps of {trial.pair} {trial.method.variant} ({number} of {of})"
            ),
        )
    print_estimate(cost, console)
    try:
        save_estimate(cost, runs / experiment.name)
    except OSError as error:
        console.print(f"the estimate is not kept: {error}", highlight=False, soft_wrap=True)


def print_trials(plan: Plan, console: Console) -> None:
    """The trials that the file expands to, as far as they are known before any is trained."""
    # a search's trials are told apart by their points
    told: dict[str, dict[str, Any]] = {} if plan.candidates else dict(told_apart(plan.trials))
    told |= plan.points
    keys = sorted({key for each in told.values() for key in each} - {"temperature", EPOCHS})
    table = Table("trial", "pair", "method", "tau", "seed", "epochs", *keys, "state", box=None)
    for trial in plan.trials:
        own = told.get(trial.trial_id, {})
        table.add_row(
            trial.trial_id,
            trial.pair,
            trial.method.variant,
            f"{trial.temperature:g}" if trial.method.settings.uses_temperature else "-",
            str(trial.seed),
            str(trial.recipe.epochs),
            *(str(own.get(key, "-")) for key in keys),
            _state(trial, plan),
        )
    console.print(table)
    if plan.to_choose:
        console.print(f"and {plan.to_choose} more, chosen by the results of these", highlight=False)


def _state(trial: TrialSpec, plan: Plan) -> str:
    trial_id = trial.trial_id
    if trial_id in plan.values:
        guided = plan.guided.get(trial_id)
        return f"finished ({guided})" if guided else "finished"
    if trial_id in plan.again:
        return f"to train again: {plan.again[trial_id]}"
    awaited = [key for key in trial.trained_by.values() if key not in plan.values]
    if awaited:
        return f"to train, after {', '.join(awaited)}"
    if trial_id in plan.changed:
        former, keys = plan.changed[trial_id]
        return f"to train: {', '.join(keys)} not as in {former}"
    return "to train"


def print_estimate(cost: Estimate, console: Console) -> None:
    """Trials, hours, device hours and the time of finish at the given concurrency; the disk."""
    to_train, total = len(cost.seconds), len(cost.costs) + cost.to_choose
    trials = "1 trial" if total == 1 else f"{total} trials"
    wall = timedelta(seconds=round(cost.wall_seconds))
    finish = datetime.now() + wall
    device, share = device_share(cost.placement)
    console.print(
        f"{to_train} of {trials} to train, "
        f"{cost.placement.slots} at once: about {wall} "
        f"({cost.device_seconds * share / 3600:.2f} {device} hours), "
        f"done at {finish:%Y-%m-%d %H:%M}",
        highlight=False,
        soft_wrap=True,
    )
    console.print(
        f"disk: about {format_bytes(cost.folder_bytes)} under runs/ (checkpoint and weights of "
        f"each trial), {format_bytes(cost.artifact_bytes)} in the artifact store, and while "
        f"trials run {format_bytes(cost.running_bytes)} more",
        highlight=False,
        soft_wrap=True,
    )
    console.print(
        f"memory: about {format_bytes(cost.memory_bytes)} for {min(cost.placement.slots, to_train)}"
        " at once, libraries included",
        highlight=False,
        soft_wrap=True,
    )


def device_share(placement: Placement) -> tuple[str, float]:
    """What a second of one trial is counted in: shares of a GPU, or CPU cores."""
    device, share = ("GPU", placement.gpus) if placement.gpus else ("CPU", placement.cpus)
    return device, share * placement.ranks


@dataclass(frozen=True)
class SavedEstimate:
    """What a dry run said of the trials that were then to be trained."""

    trial_seconds: dict[str, float]
    to_choose: int
    wall_seconds: float
    device_seconds: float
    placement: dict[str, Any]


def save_estimate(cost: Estimate, folder: Path) -> None:
    """Write the estimate for later. Raises OSError."""
    seconds = {c.trial.trial_id: c.work.seconds for c in cost.costs if not c.finished}
    saved = SavedEstimate(
        seconds, cost.to_choose, cost.wall_seconds, cost.device_seconds, asdict(cost.placement)
    )
    folder.mkdir(parents=True, exist_ok=True)
    write_durably(folder / ESTIMATE_FILE, json.dumps(asdict(saved), indent=2).encode())


def load_estimate(folder: Path, plan: Plan) -> SavedEstimate | None:
    """The estimate of a dry run of exactly the trials that `plan` has to train, or None."""
    try:
        saved = SavedEstimate(**json.loads((folder / ESTIMATE_FILE).read_text()))
    except (OSError, ValueError, TypeError):
        return None
    same = saved.trial_seconds.keys() == {trial.trial_id for trial in plan.missing}
    return saved if same and saved.to_choose == plan.to_choose else None


def compare_with_estimate(
    saved: SavedEstimate, wall_seconds: float, trial_seconds: float, placement: Placement
) -> str:
    """The sweep's real cost beside the estimate; `trial_seconds`: of all trials together."""
    device, share = device_share(placement)
    estimated_share = device_share(Placement(**saved.placement))[1]
    expected, real = saved.device_seconds * estimated_share, trial_seconds * share
    told = (
        f"took {timedelta(seconds=round(wall_seconds))} ({real / 3600:.2f} {device} hours); "
        f"estimated {timedelta(seconds=round(saved.wall_seconds))} ({expected / 3600:.2f})"
    )
    # the start of workers, which no estimate knows, is most of a short sweep
    if saved.wall_seconds < LEAST_COMPARED_SECONDS:
        return told
    times = f"{wall_seconds / saved.wall_seconds:.2f} and {real / max(expected, 1e-9):.2f} times"
    return f"{told}: {times} the estimate"
