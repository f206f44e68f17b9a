"""Which trials may train side by side in one process, and how one of them is alone for a while."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from switokd.models import MODELS
from switokd.spec.experiment import Experiment
from switokd.training.exclusive import Gate, draws_while_training, trains_beside_others
from tests.tuning.workplace import small_experiment

# networks of the zoo that drop values out; their steps draw from the global generator
DROPPING = {"mobilenet_v2_x1_4"}


@pytest.mark.parametrize("model", MODELS)
def test_dropout_is_found(model: str) -> None:
    assert draws_while_training([model]) == (model in DROPPING)


@pytest.mark.parametrize(
    ("changes", "beside"),
    [
        ({}, True),
        ({"recipe": {"engine": "graphed"}}, True),
        ({"recipe": {"engine": "compiled"}}, False),
        ({"cohorts": [{"teachers": ["torchvision/resnet18"], "students": ["resnet20"]}]}, False),
        ({"methods": ["own_methods:LogitMatching"]}, False),
        ({"dataset": "imagenet"}, False),
    ],
    ids=["zoo", "graphed", "compiled", "network from elsewhere", "method of a user", "decoded"],
)
def test_only_what_is_known_shares_a_process(
    changes: dict[str, Any], beside: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "experiments" / "own")
    trial = Experiment.model_validate(small_experiment(**changes)).trials[0]
    assert trains_beside_others(trial) is beside


STEPS, WORKERS = 200, 4


def test_whoever_is_alone_meets_nobody_and_everybody_ends() -> None:
    """Each works in steps, gives way between them, and is alone now and then, also while it works.

    One that is inside a step while another is alone is seen by the count.
    """
    gate, lock, never = Gate(), threading.Lock(), threading.Event()
    together = threading.Barrier(WORKERS)
    inside, met = [0], []

    def enter(count: int) -> None:
        with lock:
            inside[0] += count
            met.append(inside[0])

    def work() -> None:
        with gate.working():
            # all want to be alone first of all
            together.wait(60)
            for step in range(STEPS):
                if step % 40 == 0:
                    with gate.alone():
                        enter(100)
                        # long enough for another to come in, where it could
                        never.wait(0.002)
                        enter(-100)
                gate.give_way()
                enter(1)
                enter(-1)

    with ThreadPoolExecutor(WORKERS) as pool:
        for done in [pool.submit(work) for _ in range(WORKERS)]:
            done.result(timeout=60)
    assert {count for count in met if count >= 100} == {100}
    assert met.count(100) == WORKERS * STEPS // 40


def test_one_that_works_is_waited_for_until_it_gives_way() -> None:
    gate, said = Gate(), []
    works, wanted = threading.Event(), threading.Event()

    def work() -> None:
        with gate.working():
            works.set()
            assert wanted.wait(60)
            said.append("worked")
            # until the other is done
            while "alone" not in said:
                gate.give_way()

    def be_alone() -> None:
        assert works.wait(60)
        wanted.set()
        with gate.alone():
            said.append("alone")

    with ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(work), pool.submit(be_alone)]:
            done.result(timeout=60)
    assert said == ["worked", "alone"]


def test_nobody_begins_to_work_while_one_is_alone() -> None:
    gate, said = Gate(), []

    def work() -> None:
        with gate.working():
            said.append("worked")

    with gate.alone():
        worker = threading.Thread(target=work)
        worker.start()
        worker.join(0.05)
        said.append("alone")
    worker.join(60)
    assert said == ["alone", "worked"]


def test_one_that_rests_is_not_waited_for_and_comes_back_after_whoever_is_alone() -> None:
    gate, said = Gate(), []
    rests, done = threading.Event(), threading.Event()

    def work() -> None:
        with gate.working():
            with gate.resting():
                rests.set()
                assert done.wait(60)
            said.append("works again")

    def be_alone() -> None:
        assert rests.wait(60)
        with gate.alone():
            said.append("alone")
            done.set()
            # long enough for the other to come back, where it could
            threading.Event().wait(0.02)
            said.append("alone still")

    with ThreadPoolExecutor(2) as pool:
        for each in [pool.submit(work), pool.submit(be_alone)]:
            each.result(timeout=60)
    assert said == ["alone", "alone still", "works again"]
