"""Real processes, killed, interrupted and cut off: no trial is lost, doubled or left open."""

from __future__ import annotations

import os
import signal

import pandas as pd
import pytest

from switokd.spec.trial import TrialSpec
from tests.forks.command import Command
from tests.machine import is_measured
from tests.processes import await_
from tests.session.killed_trials import points
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
    series = workplace.series(run).items()
    tracked = {(name, step): value for name, found in series for step, value in found.items()}
    assert {key: v for key, v in tracked.items() if not is_measured(key[0])} == points(alone)


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
    driver.ended(130, 60)
    statuses = {run.info.status for run in workplace.runs("hard")}
    assert statuses <= {"KILLED", "FINISHED"}
    assert workplace.trial_runs("hard")[victim.trial_id].info.status == "KILLED"

    worker = workplace.worker_pid(victim)
    driver = workplace.start("sweep", workplace.file.name)
    await_(lambda: workplace.worker_pid(victim) not in (worker, None))
    _interrupt(driver)
    _interrupt(driver)
    output = driver.ended(130, 60)
    assert "Traceback" not in output

    workplace.let(None, *trials)
    workplace.sweep()
    assert {run.info.status for run in workplace.runs("hard")} == {"FINISHED"}
    for trial in trials:
        assert_as_if_undisturbed(workplace, trial)
