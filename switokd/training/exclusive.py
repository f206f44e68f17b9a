"""What trials that train side by side in one process must not do at the same time.

Networks are drawn from torch's global generator, so that one trainer is built after another. And
while a CUDA graph is recorded no other thread may wait for the device, as libraries do when they
like: whoever records is alone.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import nn

from switokd.data import describe
from switokd.data.source import MemorySource
from switokd.models import build_model
from switokd.models.outside import outside
from switokd.spec.trial import TrialSpec
from switokd.user_modules import is_address

# held by whoever builds a trainer or sets the global generator
BUILDING = threading.RLock()


class Gate:
    """Many threads work at once, or one of them is alone.

    Those who work give way at points of their own choosing, so that nobody is stopped in the
    middle of anything. Where no thread has said that it works, being alone costs nothing.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._working: set[int] = set()
        self._alone: int | None = None

    @contextmanager
    def working(self) -> Iterator[None]:
        """This thread uses the GPU in the block."""
        own = threading.get_ident()
        with self._changed:
            self._enter(own)
        try:
            yield
        finally:
            with self._changed:
                self._working.discard(own)
                self._changed.notify_all()

    def give_way(self) -> None:
        """Wait here while another thread wants to be alone."""
        own = threading.get_ident()
        if self._alone in (None, own):
            return
        with self._changed:
            if own in self._working:
                self._working.discard(own)
                self._changed.notify_all()
                self._enter(own)

    @contextmanager
    def resting(self) -> Iterator[None]:
        """Nobody waits for this thread in the block, in which it does not use the GPU."""
        own = threading.get_ident()
        with self._changed:
            works = own in self._working
            self._working.discard(own)
            self._changed.notify_all()
        try:
            yield
        finally:
            if works:
                with self._changed:
                    self._enter(own)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """No other thread works in the block; those that do are waited for."""
        own = threading.get_ident()
        with self._changed:
            works = own in self._working
            # two that want it must not wait for each other
            self._working.discard(own)
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._alone is None)
            self._alone = own
            self._changed.wait_for(lambda: not self._working)
        try:
            yield
        finally:
            with self._changed:
                self._alone = None
                if works:
                    self._working.add(own)
                self._changed.notify_all()

    def _enter(self, own: int) -> None:
        self._changed.wait_for(lambda: self._alone is None)
        self._working.add(own)


GPU = Gate()


def trains_beside_others(trial: TrialSpec) -> bool:
    """Whether a trial's steps depend on nothing that a process has only once.

    Dropout draws from the global generator, the compiler is not made for threads, decoding threads
    know of no gate, and what code from outside does nobody knows.
    """
    code = (trial.method.name, trial.dataset, *(net.model for net in trial.networks.values()))
    if trial.recipe.engine == "compiled" or any(map(is_address, code)):
        return False
    if not isinstance(describe(trial.dataset), MemorySource):
        return False
    return not draws_while_training([network.model for network in trial.networks.values()])


def draws_while_training(models: Sequence[str]) -> bool:
    """Whether a network of the zoo drops values out, or one is from elsewhere."""
    if any(outside(model) is not None for model in models):
        return True
    with torch.device("meta"):
        networks = [build_model(model, 1) for model in models]
    return any(isinstance(m, nn.modules.dropout._DropoutNd) for n in networks for m in n.modules())
