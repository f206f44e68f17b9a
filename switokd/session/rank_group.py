"""A trial over several processes: how they find each other, and what becomes of one that fails.

Rank 0 is the trial's session. The others `follow` it, wherever a `Launcher` has started them.
"""

from __future__ import annotations

import contextlib
import os
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Protocol

import torch
import torch.distributed as dist

from switokd.models.outside import outside
from switokd.spec.trial import TrialSpec
from switokd.training.build import build_trainer, choose_device
from switokd.training.ranks import ALONE, GroupRanks, Ranks
from switokd.training.timeline import DivergedError
from switokd.validation import SpecError

# all ranks start at about the same time, a process or an actor each
MEETING_TIME = timedelta(minutes=10)


@dataclass(frozen=True)
class Rendezvous:
    """Where ranks find each other: a file on the machine that all are on, else a TCP port.

    `interface`: of the network, by which they speak to each other; None for the host's own.
    """

    path: str | None = None
    host: str = ""
    port: int = 0
    interface: str | None = None

    def store(self, size: int) -> dist.Store:
        if self.path is not None:
            return dist.FileStore(self.path, size)
        return dist.TCPStore(self.host, self.port, size, timeout=MEETING_TIME)

    @contextlib.contextmanager
    def network(self) -> Iterator[None]:
        """The environment that torch.distributed takes the interface from."""
        names = ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME")
        before = {name: os.environ.get(name) for name in names}
        unset = [name for name, value in before.items() if value is None and self.interface]
        os.environ.update(dict.fromkeys(unset, self.interface or ""))
        try:
            yield
        finally:
            for name in unset:
                os.environ.pop(name, None)


def join(trial: TrialSpec, rank: int, meeting: Rendezvous, device: torch.device) -> GroupRanks:
    """Be one of a trial's ranks. Waits for the others."""
    size = trial.resources.ranks
    with meeting.network():
        return GroupRanks(
            rank,
            size,
            meeting.store(size),
            device,
            shares_batch_norm=trial.batch_norm_parts == 1,
            leaves_out=any(outside(each.model) is not None for each in trial.networks.values()),
        )


def follow(trial: TrialSpec, rank: int, meeting: Rendezvous, gpu: int = 0) -> None:
    """Train another rank's part of a trial, until rank 0 ends it.

    `gpu`: which of those that this process sees. Afterwards connections may still be open, also
    where this raises: a process in which it has must end, or the others wait for it.
    """
    device = choose_device(trial.resources)
    if device.type == "cuda":
        torch.cuda.set_device(gpu)
    with contextlib.closing(join(trial, rank, meeting, device)) as ranks:
        threads, teachers = ranks.share(None)
        torch.set_num_threads(threads)
        trainer = build_trainer(trial, device, teachers, ranks)
        with contextlib.closing(trainer.data):
            state = ranks.share(None)
            if state:
                trainer.load_state_dict(state)
            del state
            trainer.follow()


class Fate(StrEnum):
    """What became of a rank that ended before the trial."""

    DIED = "died"
    FAILED = "failed"
    DISCONNECTED = "disconnected"


@dataclass(frozen=True)
class RankEnd:
    """How a rank has ended, and what it said."""

    rank: int
    fate: Fate
    said: str


def end_of(rank: int, error: Exception) -> RankEnd:
    """The end of a rank whose `follow` has raised `error`."""
    fate = Fate.DISCONNECTED if is_disconnection(error) else Fate.FAILED
    mendable = isinstance(error, SpecError | OSError)
    said = str(error) if mendable else "".join(traceback.format_exception(error))
    return RankEnd(rank, fate, said)


def is_disconnection(error: BaseException) -> bool:
    """Whether an error may only mean that another rank has ended."""
    of_gloo = isinstance(error, RuntimeError) and "gloo" in str(error).lower()
    return of_gloo or isinstance(error, dist.DistError)


class RankFailedError(Exception):
    """Another rank could not go on; its reason is the trial's."""


class RankLostError(Exception):
    """Another rank is gone, for no reason of the trial's: it goes on from its last checkpoint."""


class Launcher(Protocol):
    """Starts the processes of ranks 1 and up."""

    def start(self, trial: TrialSpec) -> Rendezvous:
        """Have them follow rank 0 of this trial. Raises SpecError where there is no room."""
        ...

    def ended(self) -> Sequence[RankEnd]:
        """Those that have ended before the trial; waits a little for one."""
        ...

    def stop(self, *, orderly: bool) -> None:
        """The trial has ended: wait for them, or where not all was `orderly` kill them."""
        ...


class RankGroup:
    """The processes of one trial, in the eyes of rank 0."""

    def __init__(self, trial: TrialSpec, launcher: Launcher | None) -> None:
        self._trial, self._launcher = trial, launcher
        self.ranks: Ranks = ALONE

    def start(self, device: torch.device) -> Ranks:
        """Begin with the others; this process is rank 0."""
        if self._launcher is not None:
            meeting = self._launcher.start(self._trial)
            self.ranks = join(self._trial, 0, meeting, device)
        return self.ranks

    def explained(self, error: BaseException) -> BaseException:
        """What has really ended a session, where another rank's end was the cause."""
        if self._launcher is None or not is_disconnection(error):
            return error
        ends = {end.fate: end for end in self._launcher.ended()}
        if Fate.FAILED in ends:
            end = ends[Fate.FAILED]
            return RankFailedError(f"rank {end.rank}: {end.said}")
        if Fate.DIED in ends:
            end = ends[Fate.DIED]
            return RankLostError(f"rank {end.rank} {end.said}")
        return RankLostError(f"the connection of ranks broke: {error}")

    def close(self, error: BaseException | None) -> None:
        """The session has ended, by an error or without."""
        if self._launcher is None:
            return
        # all ranks meet a divergence at the same place
        orderly = self.ranks.size > 1 and (error is None or isinstance(error, DivergedError))
        with contextlib.suppress(RuntimeError):
            self.ranks.close(orderly=orderly)
        self.ranks = ALONE
        self._launcher.stop(orderly=orderly)
