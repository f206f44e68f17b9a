"""Ray's own processes killed under a sweep: it goes on by itself, or ends and says how to go on."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from switokd.spec.experiment import load_experiment
from switokd.spec.trial import TrialSpec
from tests.forks.command import Command
from tests.processes import await_
from tests.tuning.shared_ray import access, running_cluster
from tests.tuning.test_survival import assert_as_if_undisturbed
from tests.tuning.workplace import Workplace, small_experiment

# each starts Ray anew, which takes its time on a busy machine
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

# until a new Ray trains
START_SECONDS = 240.0


def ray_process(driver: int, name: str) -> int | None:
    """The process of that name which the driver has started."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            # pid (name) state parent ...
            state, parent = stat.read_text().rpartition(")")[2].split()[:2]
            command = (stat.parent / "comm").read_text().strip()
            if (command, int(parent)) == (name, driver) and state != "Z":
                return int(stat.parent.name)
    return None


def kill_in_training(
    workplace: Workplace, trial: TrialSpec, driver: Command, name: str, steps: int = 2
) -> float:
    """Kill a process of the driver's Ray when the trial has been trained so far on it; the time."""
    process = await_(lambda: ray_process(driver.pid, name), START_SECONDS)
    workplace.let(steps, trial)
    await_(lambda: workplace.held(trial), START_SECONDS, of=driver)
    os.kill(process, signal.SIGKILL)
    return time.monotonic()


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Workplace]:
    place = Workplace(tmp_path)
    content = small_experiment(
        name="lost",
        methods=["switokd"],
        recipe={"epochs": 2},
        resources={"checkpoint_seconds": 0},
    )
    # it never ends before all has been seen
    place.let(0, *place.write(content).trials)
    yield place
    place.close()


@pytest.fixture
def trial(place: Workplace) -> TrialSpec:
    (only,) = load_experiment(place.file).trials
    return only


def test_a_sweep_goes_on_by_itself_and_at_last_says_how_to(
    place: Workplace, trial: TrialSpec
) -> None:
    # the third and last time
    place.environment["SWITOKD_RAY_RESTARTS"] = "2"
    driver = place.start("sweep", place.file.name)
    kill_in_training(place, trial, driver, "raylet")
    before = place.worker_pid(trial)
    await_(lambda: place.worker_pid(trial) != before, START_SECONDS)
    killed = kill_in_training(place, trial, driver, "gcs_server", steps=4)
    output = driver.ended(1, 90)
    assert time.monotonic() - killed < 60
    assert "node process (raylet)" in output
    assert "a new Ray is started, the trials go on from their checkpoints (3 of 3 times)" in output
    message = output.strip().splitlines()[-1]
    assert message.startswith("switokd: Ray's control process (gcs_server) at ")
    assert message.endswith("this goes on from them: switokd sweep experiment.yaml")
    assert "Traceback" not in output
    assert "rpc_client" not in output
    assert {run.info.status for run in place.runs("lost")} == {"KILLED"}
    assert place.checkpoints(trial)

    del place.environment["SWITOKD_RAY_RESTARTS"]
    place.let(None, trial)
    place.sweep()
    assert {run.info.status for run in place.runs("lost")} == {"FINISHED"}
    assert_as_if_undisturbed(place, trial)


def test_an_interrupt_that_ray_no_longer_obeys_ends_the_sweep(
    place: Workplace, trial: TrialSpec
) -> None:
    driver = place.start("sweep", place.file.name)
    kill_in_training(place, trial, driver, "gcs_server")
    os.killpg(driver.pid, signal.SIGINT)
    output = driver.ended(130, 60)
    assert output.strip().splitlines()[-1] == "switokd: interrupted"
    assert "new Ray" not in output
    assert {run.info.status for run in place.runs("lost")} == {"KILLED"}


def test_a_lost_head_of_a_cluster_ends_the_sweep_with_what_goes_on(
    place: Workplace, trial: TrialSpec
) -> None:
    with running_cluster(cpus=1) as cluster:
        place.environment |= access(cluster)
        driver = place.start("sweep", place.file.name)
        place.let(2, trial)
        await_(lambda: place.held(trial), START_SECONDS, of=driver)
        gcs = await_(lambda: ray_process(os.getpid(), "gcs_server"))
        os.kill(gcs, signal.SIGKILL)
        killed = time.monotonic()
        output = driver.ended(1, 90)
        assert time.monotonic() - killed < 60
        message = output.strip().splitlines()[-1]
        assert f"(the cluster {cluster.address})" in message
        assert message.endswith("switokd sweep experiment.yaml")
        assert place.checkpoints(trial)
