"""How a machine is shared among trials."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from switokd.spec.resources import Resources
from switokd.spec.trial import TrialSpec
from switokd.validation import DataError, SpecError
from tests.tuning.workplace import small_trials
from tuning.placement import Node, Placement, allocate
from tuning.preflight import check_data


@pytest.mark.parametrize(
    ("resources", "trials", "cpus", "gpus", "expected"),
    [
        ({}, 10, 2, 0, Placement(1, 0, 2)),
        ({}, 1, 8, 0, Placement(8, 0, 1)),
        ({}, 3, 8, 0, Placement(2, 0, 3)),
        ({}, 10, 16, 1, Placement(16, 1, 1)),
        ({}, 10, 16, 4, Placement(4, 1, 4)),
        ({"gpus": 0.25}, 10, 16, 1, Placement(4, 0.25, 4)),
        ({"gpus": 0.1}, 100, 16, 1, Placement(1, 0.1, 10)),
        # a trial is on one GPU: two rests of 0.4 are no place for a third
        ({"gpus": 0.6}, 10, 16, 2, Placement(8, 0.6, 2)),
        ({"gpus": 0}, 10, 4, 1, Placement(1, 0, 4)),
        ({"cpus": 3}, 10, 8, 0, Placement(3, 0, 2)),
        ({"cpus": 1, "max_concurrent": 2}, 10, 8, 0, Placement(1, 0, 2)),
        ({"max_concurrent": 1}, 10, 8, 0, Placement(8, 0, 1)),
        ({"max_concurrent": 99}, 4, 2, 0, Placement(1, 0, 2)),
        ({}, 0, 2, 0, Placement(2, 0, 1)),
        ({"workers": 2}, 10, 8, 0, Placement(1, 0, 4, 2)),
        ({"workers": 3}, 1, 8, 2, Placement(2, 0, 1, 3)),
        ({"workers": 2, "cpus": 3}, 10, 13, 0, Placement(3, 0, 2, 2)),
        ({"gpus": 2}, 10, 16, 5, Placement(4, 1, 2, 2)),
        ({"gpus": 4, "max_concurrent": 1}, 10, 16, 8, Placement(4, 1, 1, 4)),
    ],
)
def test_shares_of_known_machines(
    resources: dict[str, Any], trials: int, cpus: int, gpus: float, expected: Placement
) -> None:
    assert allocate(Resources(**resources), trials, [Node(cpus, gpus)]) == expected


@pytest.mark.parametrize(
    ("resources", "told"),
    [
        ({"cpus": 3}, "resources.cpus: a trial asks for 3; this machine has 2"),
        ({"gpus": 0.5}, "resources.gpus: a trial asks for 0.5; this machine has 0"),
        ({"gpus": 4}, "resources.gpus: a trial asks for 4; this machine has 0"),
        ({"workers": 3}, "resources.workers: a trial asks for 3 CPU cores; this machine has 2"),
        (
            {"workers": 2, "cpus": 2},
            "resources.workers: a trial asks for 4 CPU cores; this machine has 2",
        ),
    ],
)
def test_a_trial_that_fits_nowhere(resources: dict[str, Any], told: str) -> None:
    with pytest.raises(SpecError) as raised:
        allocate(Resources(**resources), 1, [Node(2)])
    assert str(raised.value) == told


@pytest.mark.parametrize(
    ("nodes", "told"),
    [
        ([Node(2), Node(2)], "the cluster has 4"),
        # a head that trains nothing is up before its workers
        ([Node(0)], "the cluster has 0: no node that trains has joined it yet"),
    ],
)
def test_a_cluster_is_told_of_as_one(nodes: list[Node], told: str) -> None:
    with pytest.raises(SpecError) as raised:
        allocate(Resources(workers=5), 1, nodes)
    assert str(raised.value) == f"resources.workers: a trial asks for 5 CPU cores; {told}"


def test_cores_that_several_gpus_lack_are_named_by_what_the_file_says() -> None:
    with pytest.raises(SpecError) as raised:
        allocate(Resources(gpus=2, cpus=5), 1, [Node(8, 2)])
    assert str(raised.value) == "resources.cpus: a trial asks for 10; this machine has 8"


@pytest.mark.parametrize(
    ("resources", "trials", "nodes", "expected"),
    [
        # what a lone trial takes is on one node
        ({}, 1, [Node(4), Node(4)], Placement(4, 0, 1)),
        ({}, 3, [Node(4), Node(4)], Placement(2, 0, 3)),
        ({"workers": 2}, 1, [Node(2), Node(2), Node(2)], Placement(2, 0, 1, 2)),
        ({"cpus": 3}, 10, [Node(4), Node(5), Node(2)], Placement(3, 0, 2)),
        # a head without a GPU has no cores for those that train on one
        ({}, 9, [Node(64), Node(16, 4)], Placement(4, 1, 4)),
        ({"gpus": 4}, 1, [Node(16, 2), Node(8, 2)], Placement(4, 1, 1, 4)),
    ],
)
def test_shares_of_several_nodes(
    resources: dict[str, Any], trials: int, nodes: list[Node], expected: Placement
) -> None:
    assert allocate(Resources(**resources), trials, nodes) == expected


@pytest.mark.parametrize(
    ("resources", "asked"),
    [
        ({"workers": 2, "cpus": 3}, "2 times 3 CPU cores, each on one node; 1 fit"),
        ({"cpus": 5}, "5 CPU cores on one node; 0 fit"),
    ],
)
def test_processes_that_no_node_can_hold_are_refused(resources: dict[str, Any], asked: str) -> None:
    with pytest.raises(SpecError) as raised:
        allocate(Resources(**resources), 1, [Node(2), Node(4), Node(2)])
    nodes = "(the nodes have, in cores and GPUs: 2 and 0; 4 and 0)"
    assert str(raised.value) == f"resources.cpus: a trial asks for {asked} {nodes}"


@given(
    trials=st.integers(1, 500),
    nodes=st.lists(st.builds(Node, st.integers(1, 64), st.integers(0, 8)), min_size=1, max_size=4),
    cpus=st.one_of(st.just("auto"), st.integers(1, 16)),
    gpus=st.one_of(st.just("auto"), st.sampled_from([0.0, 0.1, 0.3, 0.5, 1.0, 2, 3])),
    workers=st.integers(1, 5),
    max_concurrent=st.one_of(st.none(), st.integers(1, 32)),
)
def test_no_machine_is_overfull(
    trials: int, nodes: list[Node], cpus: Any, gpus: Any, workers: int, max_concurrent: int | None
) -> None:
    if workers > 1:
        gpus = 0
    resources = Resources(cpus=cpus, gpus=gpus, workers=workers, max_concurrent=max_concurrent)
    ranks = workers if gpus == "auto" else max(workers, int(gpus))
    total_gpus = sum(node.gpus for node in nodes)
    each = min(float(total_gpus > 0 and 1) if gpus == "auto" else gpus, 1.0)

    def room(share: int) -> int:
        """How many processes of such a share the nodes have places for."""
        on = [
            (node.cpus // share, int(1 / each + 1e-9) * node.gpus if each else None)
            for node in nodes
        ]
        return sum(by_cpu if by_gpu is None else min(by_cpu, by_gpu) for by_cpu, by_gpu in on)

    if room(1 if cpus == "auto" else cpus) < ranks:
        with pytest.raises(SpecError):
            allocate(resources, trials, nodes)
        return
    found = allocate(resources, trials, nodes)
    assert 1 <= found.slots <= min(trials, max_concurrent or trials)
    assert found.cpus >= 1
    assert found.ranks == ranks
    assert found.gpus == pytest.approx(each)
    assert found.slots * ranks <= room(found.cpus)
    if cpus == "auto":
        assert found.slots * ranks > room(found.cpus + 1), "nobody has more without harm"


def test_batches_that_processes_cannot_divide_are_found_before_a_worker_starts() -> None:
    def trials(batch_size: int) -> list[TrialSpec]:
        resources = {"workers": 3, "batch_norm": "synchronized"}
        recipe = {"batch_size": batch_size, "train_images": 130}
        return list(small_trials(methods=["dml"], recipe=recipe, resources=resources))

    check_data(trials(65))
    with pytest.raises(DataError, match="an epoch's last batch has 2 images, too few for 3"):
        check_data([*trials(65), *trials(64)])
