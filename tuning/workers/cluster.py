"""Ray, started or joined: what there is to run trials on."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import RayError

from switokd.validation import SpecError
from tuning.placement import Node
from tuning.workers.ray_environment import brought_along, store_access


@dataclass(frozen=True)
class ClusterResources:
    """What there is to schedule on."""

    nodes: tuple[Node, ...]

    @property
    def gpus(self) -> float:
        """Of all nodes."""
        return sum(node.gpus for node in self.nodes)


@contextmanager
def ray_session(modules: Iterable[str] = ()) -> Iterator[ClusterResources]:
    """A Ray to schedule on: the cluster of RAY_ADDRESS, else one of our own.

    `modules`: of the user's, which the workers of a cluster are given. Raises SpecError where the
    cluster does not answer.
    """
    # by default Ray would join whatever cluster was last started on this machine, dead or alive
    settings: dict[str, Any] = {"address": "local", "include_dashboard": False}
    if os.environ.get("RAY_ADDRESS"):
        # a cluster has its dashboard or not; its workers do not have our environment
        settings = {"runtime_env": store_access() | brought_along(modules)}
    try:
        ray.init(logging_level=logging.ERROR, log_to_driver=False, **settings)
    except (ConnectionError, RuntimeError, ValueError, RayError) as error:
        where = os.environ.get("RAY_ADDRESS") or "this machine"
        raise SpecError(f"no Ray at {where} (RAY_ADDRESS): {error}") from None
    try:
        there = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        yield ClusterResources(
            tuple(Node(int(each.get("CPU", 0)), float(each.get("GPU", 0))) for each in there)
        )
    finally:
        ray.shutdown()
