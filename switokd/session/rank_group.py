"""A trial over several processes: how they find each other, and what becomes of one that fails.

Rank 0 is the trial's session. The others `follow` it, wherever a `Launcher` has started them.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Protocol

import torch
import torch.distributed as dist

from switokd.session.failures import RankFailedError, RankLostError, failure_reason
from switokd.spec.trial import TrialSpec
from switokd.training.build import build_trainer, choose_device
from switokd.training.ranks import ALONE, GroupRanks, Ranks
from switokd.training.timeline import DivergedError

log = logging.getLogger(__name__)

# all ranks start at about the same time, a process or an actor each
MEETING_TIME = timedelta(minutes=10)
# a connection says that the other end is gone, but neither that of a machine that falls silent nor
# always one that breaks in the middle of a message
NOTICING_SECONDS = 30.0
LOOK_SECONDS = 1.0


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
        """The environment that torch.distributed takes the interface from, NCCL when first used."""
        names = {"GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"} - os.environ.keys()
        ours = dict.fromkeys(names, self.interface) if self.interface else {}
        os.environ.update(ours)
        try:
            yield
        finally:
            for name in ours:
                del os.environ[name]


def join(trial: TrialSpec, rank: int, meeting: Rendezvous, device: torch.device) -> GroupRanks:
    """Be one of a trial's ranks, in the rendezvous's network. Waits for the others."""
    size = trial.resources.ranks
    return GroupRanks(
        rank,
        size,
        meeting.store(size),
        device,
        shares_batch_norm=trial.batch_norm_parts == 1,
    )


def device_of_rank(trial: TrialSpec, gpu: int = 0) -> torch.device:
    """Where another rank than 0 trains. `gpu`: which of those that this process sees."""
    device = choose_device(trial.resources)
    if device.type == "cuda":
        torch.cuda.set_device(gpu)
    return device


def follow(trial: TrialSpec, rank: int, meeting: Rendezvous, device: torch.device) -> None:
    """Train another rank's part of a trial, until rank 0 ends it.

    Afterwards connections may still be open, also where this raises: a process in which it has
    must end, or the others wait for it.
    """
    with meeting.network(), contextlib.closing(join(trial, rank, meeting, device)) as ranks:
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

    def error(self) -> RankFailedError | RankLostError:
        """What the end of this rank means for the trial."""
        if self.fate == Fate.FAILED:
            return RankFailedError(f"rank {self.rank}: {self.said}")
        return RankLostError(f"rank {self.rank} {self.said}")


def end_of(rank: int, error: Exception) -> RankEnd:
    """The end of a rank whose `follow` has raised `error`."""
    fate = Fate.DISCONNECTED if is_disconnection(error) else Fate.FAILED
    return RankEnd(rank, fate, failure_reason(error))


def is_disconnection(error: BaseException) -> bool:
    """Whether an error may only mean that another rank has ended."""
    if isinstance(error, dist.DistError):
        return True
    # the second is what a rendezvous by a file says
    told = ("gloo", "wait timeout")
    return isinstance(error, RuntimeError) and any(each in str(error).lower() for each in told)


class Launcher(Protocol):
    """Starts the processes of ranks 1 and up."""

    def start(self, trial: TrialSpec, lost: Callable[[], None]) -> Rendezvous:
        """Have them follow rank 0 of this trial.

        `lost` is called, in another thread, where one ends before the trial, and may be where it
        ends with it. Raises SpecError where there is no room, RankFailedError and RankLostError
        where one does not begin.
        """
        ...

    def ended(self) -> Sequence[RankEnd]:
        """Those that have ended before the trial; waits a little for one."""
        ...

    def stop(self, *, orderly: bool) -> None:
        """The trial has ended: wait for them, or where not all was `orderly` kill them."""
        ...


class RankGroup:
    """The processes of one trial, in the eyes of rank 0; one that trains alone launches none."""

    def __init__(self, trial: TrialSpec, launcher: Launcher | None) -> None:
        self._trial = trial
        self._launcher = launcher if trial.resources.ranks > 1 else None
        self._network = contextlib.ExitStack()
        self._joining_since: float | None = None
        self._noticed = threading.Event()
        self.ranks: Ranks = ALONE

    def start(self, device: torch.device) -> Ranks:
        """Begin with the others; this process is rank 0."""
        if self._launcher is not None:
            meeting = self._launcher.start(self._trial, self._end_where_unnoticed)
            self._network.enter_context(meeting.network())
            self._joining_since = time.monotonic()
            self.ranks = join(self._trial, 0, meeting, device)
            self._joining_since = None
        return self.ranks

    def _end_where_unnoticed(self) -> None:
        """A rank is gone: end this process too, where it only waits for the rank.

        What waits inside torch cannot be told of it. The trial goes on from its last checkpoint, as
        it does from any process that is killed.
        """
        found = time.monotonic()
        while not self._noticed.wait(LOOK_SECONDS):
            since = self._joining_since or self.ranks.waiting_since
            if since is not None and time.monotonic() - max(since, found) > NOTICING_SECONDS:
                reasons = [str(end.error()) for end in self._ends()]
                log.error("this process waits in vain for others, and ends: %s", "; ".join(reasons))
                os.kill(os.getpid(), signal.SIGKILL)

    def _ends(self) -> Sequence[RankEnd]:
        return self._launcher.ended() if self._launcher is not None else ()

    def explained(self, error: BaseException) -> BaseException:
        """What has really ended a session, where another rank's end was the cause."""
        if self._launcher is None or not is_disconnection(error):
            return error
        self._noticed.set()
        ends = {end.fate: end for end in self._ends()}
        for fate in (Fate.FAILED, Fate.DIED):
            if fate in ends:
                return ends[fate].error()
        return RankLostError(f"the connection of ranks broke: {error}")

    def close(self, error: BaseException | None) -> None:
        """The session has ended, by an error or without."""
        if self._launcher is None:
            return
        # all ranks meet a divergence at the same place
        orderly = self.ranks.size > 1 and (error is None or isinstance(error, DivergedError))
        with contextlib.suppress(RuntimeError):
            self.ranks.close(orderly=orderly)
        self._noticed.set()
        self.ranks = ALONE
        self._network.close()
        self._launcher.stop(orderly=orderly)
