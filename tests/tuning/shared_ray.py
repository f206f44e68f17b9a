"""A Ray for the sweeps that do not test how one is started and ended: that takes ten seconds."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from tests.forks import forking
from tests.processes import next_line

if TYPE_CHECKING:
    from ray.cluster_utils import Cluster

OBJECT_STORE_BYTES = 80_000_000
# a process of its own: Ray changes the environment and the signal handlers of its driver's
CLUSTER = """
import json, os, sys
from tuning.workers.ray_environment import prepare

prepare()
cpus, gpus = map(int, sys.argv[1:])
if gpus:
    # a name that no GPU has: the trials stay on the CPU, wherever this runs
    os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(str(99 + number) for number in range(gpus))
import ray

started = ray.init(
    address="local", num_cpus=cpus, num_gpus=gpus, include_dashboard=False, log_to_driver=False,
    logging_level="ERROR", object_store_memory=80_000_000,
)
access = {name: os.environ[name] for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN")}
print(json.dumps({"RAY_ADDRESS": started.address_info["gcs_address"], **access}), flush=True)
sys.stdin.read()
"""


@contextmanager
def running_ray(cpus: int = 2, gpus: int = 0) -> Iterator[dict[str, str]]:
    """A cluster of one node; what a driver's environment must hold to join it.

    `cpus`, `gpus`: how many it says it has, be they there or not.
    """
    process = subprocess.Popen(
        [sys.executable, "-c", CLUSTER, str(cpus), str(gpus)],
        env=os.environ | forking(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield json.loads(next_line(process))
    finally:
        process.communicate("", timeout=60)


@contextmanager
def running_cluster(cpus: int) -> Iterator[Cluster]:
    """A head with so many cores, which nodes can be added to."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in forking().items():
            patch.setenv(name, value)
        from tuning.workers.ray_environment import prepare

        prepare()
        # Ray reads its authentication mode when it is first imported
        from ray.cluster_utils import Cluster

        about = {"include_dashboard": False, "object_store_memory": OBJECT_STORE_BYTES}
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": cpus, **about})
        try:
            yield cluster
        finally:
            cluster.shutdown()


def access(cluster: Cluster) -> dict[str, str]:
    """What a driver's environment must hold to join it."""
    names = ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN")
    return {"RAY_ADDRESS": cluster.address} | {name: os.environ[name] for name in names}
