"""Ranks as Ray actors beside a worker, in the placement group that Tune has reserved for its trial.

The worker is rank 0. The actors are its own, so that they end with it, and serve its next trials.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import ray
import torch.distributed as dist
from ray.exceptions import RayActorError, RayError
from ray.util import get_current_placement_group, get_node_ip_address
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from switokd.session.failures import RankLostError
from switokd.session.local_ranks import LOOPBACK
from switokd.session.rank_group import (
    MEETING_TIME,
    NOTICING_SECONDS,
    Fate,
    RankEnd,
    Rendezvous,
    device_of_rank,
    end_of,
    follow,
)
from switokd.spec.trial import TrialSpec
from tuning.workers.ray_environment import for_workers

# for those that end because another has: the first may not be the one that says why
COLLECTING_SECONDS = 5.0


class RankActor:
    """The process of one rank."""

    def begin(self, trial: str, rank: int, environment: dict[str, str]) -> str | RankEnd:
        """Be ready for a trial, a TrialSpec in JSON: the address of the machine that this is on."""
        os.environ.update(environment)
        self._rank = rank
        try:
            self._trial = TrialSpec.model_validate_json(trial)
            self._device = device_of_rank(self._trial)
        except Exception as error:
            return end_of(rank, error)
        return str(get_node_ip_address())

    def follow(self, meeting: Rendezvous) -> RankEnd | None:
        """Train a part of the trial; how it ended, where that was too soon."""
        try:
            follow(self._trial, self._rank, here(meeting), self._device)
        except Exception as error:
            return end_of(self._rank, error)
        return None


class RankActors:
    """A worker's launcher."""

    def __init__(self) -> None:
        self._actors: list[Any] = []
        self._calls: list[Any] = []
        self._ends: list[RankEnd] = []
        self._server: dist.TCPStore | None = None
        self._folder: str | None = None

    def start(self, trial: TrialSpec, lost: Callable[[], None]) -> Rendezvous:
        addresses = self._begin(trial)
        meeting = here(self._meeting(trial.resources.ranks, addresses))
        self._ends, self._collected = [], threading.Event()
        self._calls = [actor.follow.remote(meeting) for actor in self._actors]
        self._watch = threading.Thread(
            target=self._watch_them, args=(lost,), name="rank watch", daemon=True
        )
        self._watch.start()
        return meeting

    def ended(self) -> Sequence[RankEnd]:
        self._collected.wait(2 * COLLECTING_SECONDS)
        return self._ends

    def stop(self, *, orderly: bool) -> None:
        if not self._calls:
            return
        if orderly:
            _, late = ray.wait(self._calls, num_returns=len(self._calls), timeout=NOTICING_SECONDS)
            orderly = not late
        if not orderly:
            self._kill()
        self._watch.join()
        self._calls, self._server = [], None
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None

    def _begin(self, trial: TrialSpec) -> list[str]:
        """Have an actor ready for each other rank of the trial; the addresses of their machines."""
        count = trial.resources.ranks - 1
        if len(self._actors) == count:
            with contextlib.suppress(RayError):
                # one may have died between two trials
                return self._begun(trial)
        self._kill()
        group = get_current_placement_group()
        assert group is not None, "Tune places trials in placement groups"
        for bundle, share in enumerate(group.bundle_specs[1 : count + 1], start=1):
            place = PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=bundle)
            options = {"num_cpus": share.get("CPU", 0), "num_gpus": share.get("GPU", 0)}
            actor = ray.remote(RankActor).options(scheduling_strategy=place, **options)
            self._actors.append(actor.remote())
        try:
            return self._begun(trial)
        except RayError as error:
            raise RankLostError(f"a rank died as it began: {error}") from None

    def _begun(self, trial: TrialSpec) -> list[str]:
        text, environment = trial.model_dump_json(), for_workers()
        begun = ray.get(
            [
                actor.begin.remote(text, rank, environment)
                for rank, actor in enumerate(self._actors, start=1)
            ]
        )
        for end in begun:
            if isinstance(end, RankEnd):
                raise end.error()
        return begun

    def _meeting(self, size: int, addresses: Sequence[str]) -> Rendezvous:
        own = str(get_node_ip_address())
        if all(address == own for address in addresses):
            self._folder = tempfile.mkdtemp(prefix="switokd-ranks-")
            return Rendezvous(str(Path(self._folder) / "rendezvous"))
        self._server = dist.TCPStore(
            own, 0, size, is_master=True, wait_for_workers=False, timeout=MEETING_TIME
        )
        return Rendezvous(host=own, port=self._server.port)

    def _watch_them(self, lost: Callable[[], None]) -> None:
        """Note who ends before the trial, and end the others: rank 0 is waiting for them."""
        (first, *_), _ = ray.wait(self._calls, num_returns=1)
        if _end_by(self._calls, first) is None:
            return
        done, _ = ray.wait(self._calls, num_returns=len(self._calls), timeout=COLLECTING_SECONDS)
        self._ends = [end for call in done if (end := _end_by(self._calls, call)) is not None]
        self._collected.set()
        self._kill()
        lost()

    def _kill(self) -> None:
        actors, self._actors = self._actors, []
        for actor in actors:
            ray.kill(actor)


def _end_by(calls: Sequence[Any], call: Any) -> RankEnd | None:
    """How the rank that a call was to has ended; None for one that ended with the trial."""
    try:
        end: RankEnd | None = ray.get(call)
    except RayActorError:
        end = RankEnd(calls.index(call) + 1, Fate.DIED, "died: its process or its machine is gone")
    except RayError as error:
        # as where Ray ends what takes too much memory
        end = RankEnd(calls.index(call) + 1, Fate.DIED, f"died: {error}")
    return end


def here(meeting: Rendezvous) -> Rendezvous:
    """A rendezvous with this machine's interface: all ranks on it, or that of its Ray."""
    interface = LOOPBACK if meeting.path is not None else _interface(str(get_node_ip_address()))
    return replace(meeting, interface=interface)


def _interface(address: str) -> str | None:
    """The network interface that has an address; None where none is known to."""
    for name, addresses in psutil.net_if_addrs().items():
        if any(each.address == address for each in addresses):
            return name
    return None
