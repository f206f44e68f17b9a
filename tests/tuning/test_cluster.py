"""A cluster of several nodes: what one alone has, and one that is taken away in mid-sweep."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from tests.forks import starter
from tests.machine import lacking
from tests.processes import await_
from tests.tuning.mlflow_server import Server
from tests.tuning.shared_ray import OBJECT_STORE_BYTES, access, running_cluster
from tests.tuning.test_rank_actors import (
    assert_finished_as_alone,
    placement_groups,
    rank_processes,
    write_pair,
)
from tests.tuning.test_survival import assert_as_if_undisturbed
from tests.tuning.workplace import Workplace, small_experiment

if TYPE_CHECKING:
    from ray.cluster_utils import Cluster

pytestmark = pytest.mark.slow

NODE_CPUS = 2


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """A head that trains nothing, and two workers with a core each."""
    with running_cluster(cpus=0) as cluster:
        for number in (2, 3):
            add_node(cluster, number)
        yield cluster


def add_node(cluster: Cluster, number: int) -> None:
    """A node with a core and an address of its own, as another machine has one."""
    address = f"127.0.0.{number}"
    cluster.add_node(num_cpus=1, object_store_memory=OBJECT_STORE_BYTES, node_ip_address=address)


@pytest.fixture
def joined(cluster: Cluster) -> dict[str, str]:
    """What a driver must know to use the cluster."""
    return access(cluster)


@pytest.fixture
def place(tmp_path: Path, joined: dict[str, str], server: Server) -> Workplace:
    """Its sweeps run on the cluster and are tracked by a server."""
    return Workplace(tmp_path, MLFLOW_TRACKING_URI=server.uri, **joined)


def test_a_store_in_a_file_is_refused_on_several_nodes(
    tmp_path_factory: pytest.TempPathFactory, joined: dict[str, str]
) -> None:
    workplace = Workplace(tmp_path_factory.mktemp("file"), **joined)
    workplace.write(small_experiment())
    output = workplace.sweep(status=2)
    message = output.strip().splitlines()[-1]
    assert message.startswith("switokd: the cluster has 3 nodes")
    assert f"sqlite:///{workplace.folder / 'runs' / 'mlflow.db'} is a file of this one" in message
    assert "MLFLOW_TRACKING_URI" in message
    assert "Traceback" not in output
    assert workplace.trial_runs("small") == {}


NETWORK = """
from pathlib import Path
from torch import nn

def net(num_classes):
    with Path({log!r}).open("a") as log:
        print(__file__, file=log)
    layers = [nn.Conv2d(3, 4, 3, stride=2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(4, num_classes))
"""


@contextmanager
def node_without(folder: Path, cluster: Cluster) -> Iterator[None]:
    """A node of the cluster to whose processes the folder is empty, as on a machine without it."""
    node = f"{sys.executable} -m ray.scripts.scripts start --block --num-cpus {NODE_CPUS}"
    node += f" --address {cluster.address} --object-store-memory {OBJECT_STORE_BYTES}"
    hidden = f"mount -t tmpfs none {folder} && exec {node}"
    log = folder.parent / "node.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            ["unshare", "--mount", "sh", "-c", hidden], stdout=output, stderr=output
        )
        try:
            await_(lambda: process.poll() is not None or "Ray runtime started" in log.read_text())
            if process.poll() is not None:
                lacking(f"the right to hide a folder from a process: {log.read_text()}")
            yield
        finally:
            process.terminate()
            process.wait(60)


def test_a_node_without_the_users_module_is_given_it(
    tmp_path_factory: pytest.TempPathFactory,
    cluster: Cluster,
    joined: dict[str, str],
    server: Server,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    modules = tmp_path_factory.mktemp("parent") / "modules"
    modules.mkdir()
    monkeypatch.syspath_prepend(modules)
    workplace = Workplace(
        tmp_path_factory.mktemp("given"),
        MLFLOW_TRACKING_URI=server.uri,
        path=modules,
        **joined,
    )
    log, module = workplace.folder / "log", modules / "brought_along.py"
    with node_without(modules, cluster):
        module.write_text(NETWORK.format(log=str(log)), encoding="utf-8")
        content = small_experiment(
            name="given",
            methods=["dml"],
            cohorts=[{"teachers": ["wrn_16_1"], "students": ["brought_along:net"]}],
            # as many as that node alone has
            resources={"cpus": NODE_CPUS},
        )
        workplace.write(content)
        workplace.sweep()
    driver, *_, worker = log.read_text().split()
    assert driver == str(module)
    assert "py_modules" in worker
    assert {run.info.status for run in workplace.runs("given")} == {"FINISHED"}


def test_a_trial_over_two_nodes_outlives_either(cluster: Cluster, place: Workplace) -> None:
    trials = write_pair(place, "ranks")
    sweep = place.start("sweep", place.file.name)
    for number, trial in enumerate(trials, start=4):
        await_(lambda t=trial: place.held(t), of=sweep)
        (rank_1,) = rank_processes()
        worker = psutil.Process(place.worker_pid(trial))
        lost = node_of(cluster, rank_1 if trial is trials[0] else worker)
        assert node_of(cluster, rank_1) != node_of(cluster, worker)
        cluster.remove_node(lost, allow_graceful=False)
        place.let(None, trial)
        add_node(cluster, number)
    output = sweep.ended(timeout=240)
    assert output.count("its worker ended: it goes on from its checkpoint") == 2
    assert placement_groups(place) == {"REMOVED"}
    assert_finished_as_alone(place, trials)


def node_of(cluster: Cluster, process: psutil.Process) -> Any:
    """The node that has started a process."""
    command = " ".join(starter(process).cmdline())
    (node,) = (n for n in cluster.worker_nodes if f"address={n.node_ip_address} " in command)
    return node


def test_a_removed_node_loses_and_doubles_nothing(cluster: Cluster, place: Workplace) -> None:
    content = small_experiment(
        name="removal",
        methods=["dml", "switokd"],
        resources={"checkpoint_seconds": 0},
    )
    trials = place.write(content).trials
    place.let(2, *trials)
    sweep = place.start("sweep", place.file.name)
    workers: dict[str, int] = {}
    for trial in trials:
        await_(lambda t=trial: place.held(t), of=sweep)
        pid = place.worker_pid(trial)
        assert pid is not None
        workers[trial.trial_id] = pid
    assert len(set(workers.values())) == 2, "the trials share a node"
    cluster.remove_node(cluster.worker_nodes.copy().pop(), allow_graceful=False)
    place.let(None, *trials)
    output = sweep.ended(timeout=240)
    assert sum("it goes on from its checkpoint" in line for line in output.splitlines()) == 1
    (moved,) = (t for t in trials if place.worker_pid(t) != workers[t.trial_id])
    assert set(place.trial_runs("removal")) == set(workers)
    assert {run.info.status for run in place.runs("removal")} == {"FINISHED"}
    assert_as_if_undisturbed(place, moved)
