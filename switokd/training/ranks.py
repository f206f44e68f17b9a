"""The processes that train one trial together, each on its part of every batch.

All of them hold all networks, and take the same steps. Rank 0 leads: it evaluates, saves and
decides when to go on; the others wait for its word before each step and each exchange, so that
nobody has to foresee when it stops for a checkpoint.
"""

from __future__ import annotations

import contextlib
import functools
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import timedelta
from enum import IntEnum
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from switokd.data.parts import Part
from switokd.training.batch_norm import release, synchronize

# as long as rank 0 evaluates, saves or waits for its tracking store; a rank that dies is noticed by
# its closed connections
PATIENCE = timedelta(days=30)
# what is said in the middle of a step comes soon, or never
STEP_PATIENCE = timedelta(minutes=30)


class Command(IntEnum):
    """What rank 0 has the others do next."""

    STEP = 0
    EPOCH = 1
    FLUSH = 2
    RANDOM = 3
    END = 4


class EndedError(Exception):
    """Rank 0 has ended the trial."""


class Ranks:
    """A process that trains alone: nobody is asked, and nothing is exchanged."""

    rank = 0
    size = 1
    # the moment (of time.monotonic) since which this process has needed the others to go on
    waiting_since: float | None = None

    @property
    def leads(self) -> bool:
        return self.rank == 0

    @property
    def part(self) -> Part:
        """Which part of every batch is this process's."""
        return Part(self.rank, self.size)

    def announce(self, command: Command) -> None:
        """Rank 0: have the others do this too; they are waiting for a command."""

    def await_(self, wanted: Command, errands: Mapping[Command, Callable[[], object]]) -> None:
        """The other ranks: do what rank 0 asks for, until it asks for `wanted`.

        Raises EndedError where it ends the trial first.
        """

    def begin_batch(self, images: int) -> None:
        """The next step is on a batch of so many images, of all ranks together."""

    def end_batch(self) -> None:
        """The step is done: nobody is needed until the next command."""

    def average(self, values: Tensor) -> Tensor:
        """The means over this process's part of the batch as those over the whole of it."""
        return values

    def average_rows(self, rows: Tensor, images: Tensor) -> tuple[Tensor, Tensor]:
        """As `average`, of many batches: rows (N, ...) of means over `images` (N, 1) of each.

        The images of all ranks come second.
        """
        return rows, images

    def weighted(self, loss: Tensor) -> Tensor:
        """A loss whose gradient, averaged over ranks, is that of the whole batch's."""
        return loss

    def synchronize(self, module: nn.Module) -> None:
        """Prepare a module that learns for parts of batches, in place."""

    def release(self, module: nn.Module) -> None:
        """Make of a module what it was before `synchronize`, in place."""

    def wrap(self, network: nn.Module) -> nn.Module:
        """What to call in place of a network that learns, for gradients averaged over ranks."""
        return network

    def average_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Of parameters in no wrapped network, after their backward pass."""

    def share(self, state: Any) -> Any:
        """Rank 0's state, for all; plain values and tensors."""
        return state

    def gather(self, state: Any) -> list[Any]:
        """The states of all ranks, by rank."""
        return [state]

    def close(self, *, orderly: bool = True) -> None:
        """Nothing can be exchanged afterwards. Rank 0 lets the others go, where all is `orderly`:
        they await its word, and are not in the middle of a step."""


ALONE = Ranks()


class InPlace(nn.Module):
    """A network whose gradients keep their places in the messages of DistributedDataParallel.

    They are moved after the first step unless it looks for parameters that are not used. A sum of
    three or more goes by the place, so that a trial that goes on, and takes a first step again,
    would come to other bits. The parameter that is never used spares everyone a warning.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.unused = nn.Parameter(torch.zeros((), device=next(network.parameters()).device))

    def forward(self, *inputs: Any) -> Any:
        return self.network(*inputs)


class GroupRanks(Ranks):
    """One of several processes, connected by torch.distributed.

    On GPUs gradients and means go by NCCL, commands and states by gloo; on CPUs all by gloo.
    """

    def __init__(
        self,
        rank: int,
        size: int,
        store: dist.Store,
        device: torch.device,
        *,
        shares_batch_norm: bool = False,
    ) -> None:
        """`store`: where the ranks find each other. Waits for all.

        `shares_batch_norm`: batch norms take their statistics from the whole batch, and not each
        rank from its part.
        """
        self._shares_batch_norm = shares_batch_norm
        self.rank, self.size = rank, size
        backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
        dist.init_process_group(
            backend, store=store, rank=rank, world_size=size, timeout=STEP_PATIENCE
        )
        words = dist.new_group(backend="gloo", timeout=PATIENCE)
        assert isinstance(words, dist.ProcessGroup), "this rank is in it"
        self._words = words
        self._share = 1 / size
        self._open = True

    @property
    def part(self) -> Part:
        return Part(self.rank, self.size, self._shares_batch_norm)

    def announce(self, command: Command) -> None:
        self._say(int(command))

    def await_(self, wanted: Command, errands: Mapping[Command, Callable[[], object]]) -> None:
        while True:
            command = Command(self._say(0))
            if command == wanted:
                return
            if command == Command.END:
                raise EndedError
            errands[command]()

    def _say(self, word: int) -> int:
        """Rank 0's word, for all; theirs are 0.

        A sum, for which rank 0 listens too: gloo may not notice that whom it only sends to is gone.
        """
        said = torch.tensor(word, dtype=torch.uint8)
        with self._waiting():
            dist.all_reduce(said, group=self._words)
        return int(said)

    @contextlib.contextmanager
    def _waiting(self) -> Iterator[None]:
        before = self.waiting_since
        self.waiting_since = before or time.monotonic()
        # after an error nobody is waited for either
        try:
            yield
        finally:
            self.waiting_since = before

    def begin_batch(self, images: int) -> None:
        self._share = len(self.part.of(range(images))) / images
        self.waiting_since = time.monotonic()

    def end_batch(self) -> None:
        self.waiting_since = None

    def average(self, values: Tensor) -> Tensor:
        values = values * self._share
        dist.all_reduce(values)
        return values

    def average_rows(self, rows: Tensor, images: Tensor) -> tuple[Tensor, Tensor]:
        of_all = images.clone()
        with self._waiting():
            dist.all_reduce(of_all)
            mine = rows * (images / of_all).to(rows.dtype)
            parts = [torch.empty_like(mine) for _ in range(self.size)]
            dist.all_gather(parts, mine)
        # in the order of ranks: how a reduction adds three goes by the number of rows
        return functools.reduce(torch.add, parts), of_all

    def weighted(self, loss: Tensor) -> Tensor:
        weight = self._share * self.size
        # parts of equal size, as nearly all are, keep the loss to the last bit
        return loss if weight == 1 else loss * weight

    def synchronize(self, module: nn.Module) -> None:
        if self._shares_batch_norm:
            synchronize(module, dist.all_reduce)

    def release(self, module: nn.Module) -> None:
        if self._shares_batch_norm:
            release(module)

    def wrap(self, network: nn.Module) -> nn.Module:
        # what a batch norm remembers matters on rank 0 alone, which evaluates and saves
        with self._waiting(), warnings.catch_warnings():
            # torch 2.14 has another name for it, which 2.11 does not know
            warnings.filterwarnings("ignore", ".*broadcast_buffers", FutureWarning)
            return DistributedDataParallel(
                InPlace(network), broadcast_buffers=False, find_unused_parameters=True
            )

    def average_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        gradients = [p.grad for p in parameters if p.grad is not None]
        if gradients:
            flat = torch.cat([gradient.flatten() for gradient in gradients]) / self.size
            dist.all_reduce(flat)
            parts = flat.split([gradient.numel() for gradient in gradients])
            for gradient, part in zip(gradients, parts, strict=True):
                gradient.copy_(part.view_as(gradient))

    def share(self, state: Any) -> Any:
        held = [state]
        # rank 0 may have been busy for long
        with self._waiting():
            dist.broadcast_object_list(held, 0, self._words, torch.device("cpu"))
        return held[0]

    def gather(self, state: Any) -> list[Any]:
        states: list[Any] = [None] * self.size
        with self._waiting():
            dist.all_gather_object(states, state, self._words)
        return states

    def close(self, *, orderly: bool = True) -> None:
        if not self._open:
            return
        self._open = False
        if self.leads and orderly:
            # some may have died
            with contextlib.suppress(RuntimeError):
                self.announce(Command.END)
        dist.destroy_process_group()
