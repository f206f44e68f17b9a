"""A trial over several processes: equal to one process that computes all of their parts."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from switokd.training.build import build_trainer
from switokd.training.timeline import DivergedError
from switokd.training.trainer import Trainer
from tests.session.killed_trials import trial
from tests.training.rank_processes import CPU, AllParts, RankProcesses, rank_processes

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("tiny_models")]

TWO_TEACHERS = [{"teachers": ["tiny_wide", "tiny"], "students": ["tiny"]}]
TWO_STUDENTS = [{"teachers": ["tiny_wide"], "students": ["tiny", "tiny_wide"]}]


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RankProcesses]:
    with rank_processes(4, tmp_path_factory.mktemp("ranks")) as processes:
        yield processes


def whole(trainer: Trainer) -> dict[str, Any]:
    while not trainer.done:
        trainer.run_epoch()
    return found(trainer)


def found(trainer: Trainer) -> dict[str, Any]:
    return {
        "networks": {name: network.state_dict() for name, network in trainer.networks.items()},
        "links": {link: trainer.timeline.switch(link) for link in trainer.timeline.links},
        "paused": trainer.timeline.paused_share("T1") if trainer.timeline.links else 0.0,
        "state": trainer.state_dict(),
    }


def compare(answer: dict[str, Any], parts: AllParts, tolerance: float = 0.0) -> None:
    for name, network in parts.trainer.networks.items():
        for key, tensor in network.state_dict().items():
            other: Tensor = answer["networks"][name][key]
            assert torch.allclose(tensor, other, rtol=tolerance, atol=tolerance), (name, key)
    for link, switch in answer["links"].items():
        theirs = torch.tensor([step[link] for step in parts.links], dtype=torch.float64)
        ours = torch.stack([torch.from_numpy(values) for values in switch.values()], dim=1)
        assert torch.allclose(ours.double(), theirs, rtol=tolerance, atol=tolerance), link
        assert torch.equal(ours[:, -1].double(), theirs[:, -1]), "the modes"


PAUSES = [{"switokd": {"threshold": 0.2}}]
# parts of one size: not one bit differs
EQUAL: dict[str, dict[str, Any]] = {
    "1T1S": {"methods": PAUSES},
    "adaptive": {},
    "2T1S": {"methods": PAUSES, "cohorts": TWO_TEACHERS},
    "1T2S": {"methods": PAUSES, "cohorts": TWO_STUDENTS},
    "temperature": {"temperatures": [2]},
    "dml": {"methods": ["dml"]},
    "kdcl": {"methods": ["kdcl"]},
    "own views": {
        "methods": [{"kdcl": {"views": "own"}}],
        "recipe": {"augmentation": "crop"},
    },
    "vanilla": {"methods": ["vanilla"]},
}
# other sums: of ten and nine images in an epoch's last batch, of what a teacher says of 512 at once
NEAR: dict[str, dict[str, Any]] = {
    "unequal parts": {"recipe": {"train_images": 619}},
    "kd": {"methods": ["kd"]},
    "fitnet": {"methods": ["fitnet"]},
    "at": {"methods": ["at"]},
}


@pytest.mark.parametrize("name", [*EQUAL, *NEAR])
def test_two_ranks_are_one_process_that_computes_both_parts(
    name: str, ranks: RankProcesses
) -> None:
    changes = (EQUAL | NEAR)[name]
    spec = trial(**copy.deepcopy(changes))
    answer = ranks.train(spec, 2, whole)
    parts = AllParts(spec, 2)
    for _ in range(spec.recipe.epochs):
        parts.run_epoch()
    compare(answer, parts, 0.0 if name in EQUAL else 1e-5)
    if changes.get("methods") == PAUSES:
        assert 0 < answer["paused"] < 1


def test_four_ranks_in_double_precision(ranks: RankProcesses) -> None:
    spec = trial(methods=PAUSES, recipe={"precision": "fp64", "train_images": 550})
    answer = ranks.train(spec, 4, whole)
    parts = AllParts(spec, 4)
    for _ in range(spec.recipe.epochs):
        parts.run_epoch()
    compare(answer, parts, 1e-12)
    assert 0 < answer["paused"] < 1


@pytest.mark.parametrize("method", [PAUSES[0], "fitnet"], ids=["switokd", "fitnet"])
@pytest.mark.parametrize("size", [2, 3])
def test_a_batch_norm_of_all_ranks_is_that_of_one_process(
    size: int, method: Any, ranks: RankProcesses
) -> None:
    spec = trial(methods=[method], recipe={"precision": "fp64", "train_images": 550})
    answer = ranks.train(spec, size, whole, whole_batch_norm=True)
    alone = build_trainer(spec, CPU)
    while not alone.done:
        alone.run_epoch()
    for name, network in alone.networks.items():
        for key, tensor in network.state_dict().items():
            other = answer["networks"][name][key]
            assert torch.allclose(tensor, other, rtol=1e-9, atol=1e-12), (name, key)
    rows, theirs = (each["timeline"]["rows"] for each in (alone.state_dict(), answer["state"]))
    assert torch.allclose(rows, theirs, rtol=1e-9, atol=1e-12)


def left_half_way(trainer: Trainer) -> dict[str, Any]:
    trainer.run_epoch()
    assert trainer.run_epoch(lambda: trainer.step_in_epoch < 2) is None
    return trainer.state_dict()


def with_stops(trainer: Trainer) -> dict[str, Any]:
    """Rank 0 saves after each step, and leaves the epoch twice."""

    def go_on() -> bool:
        trainer.state_dict()
        return trainer.step_in_epoch not in (2, 4)

    while not trainer.done:
        trainer.run_epoch(go_on)
    return found(trainer)


@pytest.mark.parametrize(
    ("changes", "size"),
    [
        ({"methods": PAUSES}, 2),
        # the sum of three depends on its order, which goes by a number's place in a message
        ({"methods": PAUSES}, 3),
        ({"methods": [{"kdcl": {"variant": "general"}}], "recipe": {"holdout": 0.2}}, 2),
        ({"methods": ["fitnet"]}, 2),
    ],
    ids=["switokd", "three", "general weights from a hold-out", "a module of the method's"],
)
def test_stops_and_a_new_start_in_mid_epoch_leave_no_trace(
    changes: dict[str, Any], size: int, ranks: RankProcesses
) -> None:
    spec = trial(**copy.deepcopy(changes))
    undisturbed = ranks.train(spec, size, whole)
    stopped = ranks.train(spec, size, with_stops)
    half = ranks.train(spec, size, left_half_way)
    resumed = ranks.train(spec, size, whole, half)
    for other in (stopped, resumed):
        for name, state in undisturbed["networks"].items():
            for key, tensor in state.items():
                assert torch.equal(tensor, other["networks"][name][key]), (name, key)
        rows = (each["state"]["timeline"]["rows"] for each in (undisturbed, other))
        assert torch.equal(*rows)


def diverges(trainer: Trainer) -> str:
    with pytest.raises(DivergedError) as caught:
        whole(trainer)
    return caught.value.network


def test_a_divergence_ends_the_trial_on_all_ranks(ranks: RankProcesses) -> None:
    rate = {"model": "tiny", "learning_rate": 1e30}
    spec = trial(cohorts=[{"teachers": ["tiny_wide"], "students": [rate]}])
    assert ranks.train(spec, 2, diverges) == "S1"
    # and leaves them free for the next
    assert ranks.train(trial(recipe={"epochs": 1}), 2, whole)["networks"]
