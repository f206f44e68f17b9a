"""Real processes, killed, interrupted and cut off: no trial is lost, doubled or left open."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pandas as pd
import pytest

from switokd.session.checkpoint import CheckpointFolder
from switokd.spec.trial import TrialSpec
from tests.forks.command import Command
from tests.machine import is_measured
from tests.processes import await_
from tests.tuning.workplace import Workplace, assert_same_weights, small_experiment

pytestmark = pytest.mark.slow


def assert_as_if_undisturbed(workplace: Workplace, trial: TrialSpec) -> None:
    """One finished run, with the weights, timeline and points of an undisturbed process."""
    run = workplace.trial_runs(trial.experiment)[trial.trial_id]
    assert run.info.status == "FINISHED"
    alone, here = workplace.train_alone(trial), workplace.trial_folder(trial)
    assert_same_weights(alone, here)
    pd.testing.assert_frame_equal(
        pd.read_parquet(alone / "timeline.parquet"), pd.read_parquet(here / "timeline.parquet")
    )
    assert _timeless(workplace.series(run)) == _timeless(_points(alone))


def _points(folder: Path) -> dict[str, dict[int, float]]:
    """Every point of a trial that was not tracked: they wait in its last checkpoint."""
    state = CheckpointFolder(folder / "checkpoints").latest()
    assert state is not None
    series: dict[str, dict[int, float]] = {}
    for name, value, step, _ in state["outbox"]:
        assert step not in series.setdefault(name, {})
        series[name][step] = value
    return series


def _timeless(series: dict[str, dict[int, float]]) -> dict[str, dict[int, float]]:
    return {name: values for name, values in series.items() if not is_measured(name)}


def _interrupt(process: Command) -> None:
    """As a terminal does it: to the whole foreground group."""
    os.killpg(process.pid, signal.SIGINT)


def test_killed_workers_killed_drivers_and_interrupts_lose_and_double_nothing(
    lone_workplace: Workplace,
) -> None:
    workplace = lone_workplace
    content = small_experiment(
        name="hard",
        methods=["dml", "switokd"],
        recipe={"epochs": 4},
        resources={"checkpoint_seconds": 0},
    )
    trials = workplace.write(content).trials
    victim = trials[1]
    steps = 0

    def go_on() -> None:
        nonlocal steps
        steps += 3
        workplace.let(steps, *trials)
        await_(lambda: workplace.held(victim))

    driver = workplace.start("sweep", workplace.file.name)
    go_on()
    worker = workplace.worker_pid(victim)
    assert worker is not None
    os.kill(worker, signal.SIGKILL)
    await_(lambda: workplace.worker_pid(victim) not in (worker, None))
    go_on()
    assert driver.poll() is None
    driver.kill()
    driver.wait()

    worker = workplace.worker_pid(victim)
    driver = workplace.start("sweep", workplace.file.name)
    await_(lambda: workplace.worker_pid(victim) not in (worker, None))
    go_on()
    _interrupt(driver)
    output, _ = driver.communicate(timeout=60)
    assert driver.returncode == 130, output
    statuses = {run.info.status for run in workplace.runs("hard")}
    assert statuses <= {"KILLED", "FINISHED"}
    assert workplace.trial_runs("hard")[victim.trial_id].info.status == "KILLED"

    worker = workplace.worker_pid(victim)
    driver = workplace.start("sweep", workplace.file.name)
    await_(lambda: workplace.worker_pid(victim) not in (worker, None))
    _interrupt(driver)
    _interrupt(driver)
    output, _ = driver.communicate(timeout=60)
    assert driver.returncode == 130, output
    assert "Traceback" not in output

    workplace.let(None, *trials)
    status, output = workplace.sweep()
    assert status == 0, output
    assert {run.info.status for run in workplace.runs("hard")} == {"FINISHED"}
    for trial in trials:
        assert_as_if_undisturbed(workplace, trial)
