"""Trials that share a GPU in threads of one process: what one of them or the process meets.

The GPU is one that Ray only believes in; the trials train on the CPU, in the same threads.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from tests.processes import await_
from tests.tuning.shared_ray import running_ray
from tests.tuning.test_survival import assert_as_if_undisturbed
from tests.tuning.workplace import Workplace, small_experiment

pytestmark = pytest.mark.slow

DIVERGING = {"teachers": ["wrn_16_1"], "students": [{"model": "resnet20", "learning_rate": 1e6}]}
DROPPING = {"teachers": ["wrn_16_1"], "students": ["mobilenet_v2_x1_4"]}


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workplace]:
    with running_ray(gpus=1) as ray:
        place = Workplace(tmp_path_factory.mktemp("workplace"), **ray)
        yield place
        place.close()


def test_the_process_is_killed_and_a_trial_fails_and_the_others_end_undisturbed(
    workplace: Workplace,
) -> None:
    content = small_experiment(
        name="shared",
        methods=["dml", "switokd"],
        recipe={"epochs": 2},
        resources={"trials_per_gpu": 2, "gpu_sharing": "threads", "checkpoint_seconds": 0},
    )
    content["cohorts"].append(DIVERGING)
    good, bad = [], []
    for trial in workplace.write(content).trials:
        rates = [network.learning_rate for network in trial.networks.values()]
        (bad if max(rates) > 1 else good).append(trial)
    first, second = good
    workplace.let(2, *good)
    driver = workplace.start("sweep", workplace.file.name)
    await_(lambda: all(map(workplace.held, good)), of=driver)
    process = workplace.worker_pid(first)
    assert process is not None
    assert workplace.worker_pid(second) == process
    os.kill(process, signal.SIGKILL)
    workplace.let(None, *good)
    output = driver.ended(1)
    assert "its worker ended: it goes on from its checkpoint" in output
    assert "Traceback" not in output
    for trial in good:
        assert workplace.worker_pid(trial) != process
        assert_as_if_undisturbed(workplace, trial)
    runs = workplace.trial_runs("shared")
    assert {runs[trial.trial_id].info.status for trial in bad} == {"FAILED"}


def test_one_that_draws_while_it_trains_has_a_process_of_its_own(workplace: Workplace) -> None:
    content = small_experiment(
        name="apart",
        methods=["dml"],
        seeds=[0, 1],
        recipe={"train_images": 128},
        resources={"trials_per_gpu": 2, "gpu_sharing": "threads"},
    )
    content["cohorts"].append(DROPPING)
    trials = workplace.write(content).trials
    workplace.sweep()
    pids: dict[str, set[int | None]] = {}
    for trial in trials:
        pids.setdefault(trial.pair, set()).add(workplace.worker_pid(trial))
        assert_as_if_undisturbed(workplace, trial)
    together, apart = pids["wrn_16_1>resnet20"], pids["wrn_16_1>mobilenet_v2_x1_4"]
    assert len(together) == 1
    assert not together & apart
