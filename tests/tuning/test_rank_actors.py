"""Sweeps whose trials are trained by several processes each, on real Ray, and their accidents."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import psutil
import pytest

from switokd.spec.trial import TrialSpec
from tests.processes import await_
from tests.tuning.shared_ray import running_ray
from tests.tuning.workplace import Workplace, assert_same_weights, small_experiment

pytestmark = pytest.mark.slow

PLACEMENT_GROUPS = """
import json
import ray
from ray.util import placement_group_table

ray.init(logging_level="ERROR", log_to_driver=False)
# Ray may have more to say
print("states:", json.dumps([group["state"] for group in placement_group_table().values()]))
"""


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workplace]:
    with running_ray(cpus=3) as ray:
        place = Workplace(tmp_path_factory.mktemp("ranks"), **ray)
        yield place
        place.close()


def write_pair(workplace: Workplace, name: str, workers: int = 2) -> tuple[TrialSpec, ...]:
    """Two trials, one after the other for want of cores. They are held after two steps."""
    trials = workplace.write(
        small_experiment(
            name=name,
            cohorts=[{"teachers": ["wrn_16_1"], "students": ["wrn_16_1"]}],
            methods=["dml", {"switokd": {"threshold": 0.2}}],
            recipe={"epochs": 2, "train_images": 256},
            resources={"workers": workers, "checkpoint_seconds": 0},
        )
    ).trials
    workplace.let(2, *trials)
    return trials


def rank_processes() -> list[psutil.Process]:
    """Those of the actors beside workers."""
    found = []
    for process in psutil.process_iter():
        # one that ends meanwhile is none of them
        with contextlib.suppress(psutil.NoSuchProcess):
            if any("RankActor" in argument for argument in process.cmdline()[:1]):
                found.append(process)
    return found


def placement_groups(workplace: Workplace) -> set[str]:
    """The states of those that there are or were."""
    answer = subprocess.run(
        [sys.executable, "-c", PLACEMENT_GROUPS],
        env=workplace.environment,
        capture_output=True,
        text=True,
        check=True,
    )
    (said,) = (line for line in answer.stdout.splitlines() if line.startswith("states:"))
    return set(json.loads(said.removeprefix("states:")))


def assert_finished_as_alone(workplace: Workplace, trials: tuple[TrialSpec, ...]) -> None:
    runs = workplace.trial_runs(trials[0].experiment)
    assert {run.info.status for run in runs.values()} == {"FINISHED"}
    for trial in trials:
        workplace.series(runs[trial.trial_id])
        assert_same_weights(workplace.trial_folder(trial), workplace.train_alone(trial))


def test_a_killed_rank_or_worker_costs_what_is_after_the_last_checkpoint(
    workplace: Workplace,
) -> None:
    trials = write_pair(workplace, "killed", workers=3)
    sweep = workplace.start("sweep", workplace.file.name)
    await_(lambda: workplace.held(trials[0]), of=sweep)
    rank_1, _ = rank_processes()
    rank_1.send_signal(signal.SIGKILL)
    workplace.let(None, trials[0])
    await_(lambda: workplace.held(trials[1]), of=sweep)
    pid = workplace.worker_pid(trials[1])
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    workplace.let(None, trials[1])
    output = sweep.ended()
    assert "Traceback" not in output
    assert output.count("its worker ended: it goes on from its checkpoint") == 2
    assert placement_groups(workplace) == {"REMOVED"}
    assert_finished_as_alone(workplace, trials)


def test_an_interrupted_sweep_leaves_nothing_and_goes_on(workplace: Workplace) -> None:
    trials = write_pair(workplace, "interrupted")
    sweep = workplace.start("sweep", workplace.file.name)
    await_(lambda: workplace.held(trials[0]), of=sweep)
    os.kill(sweep.pid, signal.SIGINT)
    sweep.ended(130, 120)
    assert placement_groups(workplace) == {"REMOVED"}
    await_(lambda: not rank_processes())
    workplace.let(None, *trials)
    output = workplace.sweep()
    assert "1 at once, in 2 processes with 1 CPU cores and 0 GPUs each" in output
    assert_finished_as_alone(workplace, trials)
    assert placement_groups(workplace) == {"REMOVED"}
