"""Processes that train one trial together, and one process that computes all of their parts."""

from __future__ import annotations

import multiprocessing
import pickle
import traceback
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from switokd.data.parts import Part
from switokd.methods.base import CohortStep
from switokd.models import MODELS
from switokd.spec.trial import TrialSpec
from switokd.switching import full_precision, label_distance, probability_gap
from switokd.training.build import build_trainer, open_data, record_maps
from switokd.training.ranks import GroupRanks
from switokd.training.trainer import Trainer
from tests.compatibility.tiny_networks import TINY_NETWORKS

# what rank 0 does with its trainer
Lead = Callable[[Trainer], Any]
CPU = torch.device("cpu")


class RankProcesses:
    """Processes that wait for trials: starting one takes longer than a test's training."""

    def __init__(self, count: int, folder: Path) -> None:
        # torch is imported once
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["torch", "torchvision"])
        self._folder, self._calls = folder, 0
        self._pipes: list[Connection] = []
        self._processes: list[BaseProcess] = []
        for _ in range(count):
            ours, theirs = context.Pipe()
            process = context.Process(target=_serve, args=(theirs,), daemon=True)
            process.start()
            self._pipes.append(ours)
            self._processes.append(process)

    def train(
        self,
        trial: TrialSpec,
        size: int,
        lead: Lead,
        state: Any = None,
        whole_batch_norm: bool = False,
    ) -> Any:
        """What `lead`, a function of a module, gives for the trainer of rank 0 of `size`.

        `state`: of the trainers, to go on from.
        """
        self._calls += 1
        address = str(self._folder / f"meeting-{self._calls}")
        # not as tensors: those would lie in memory that the processes share
        content = pickle.dumps(state)
        for rank, pipe in enumerate(self._pipes[:size]):
            group = (rank, size, address, CPU)
            pipe.send((trial.model_dump_json(), group, whole_batch_norm, lead, content))
        answers = [pipe.recv() for pipe in self._pipes[:size]]
        for error, _ in answers:
            assert error is None, error
        return answers[0][1]

    def close(self) -> None:
        for pipe in self._pipes:
            pipe.send(None)
        for process in self._processes:
            process.join(30)


@contextmanager
def rank_processes(count: int, folder: Path) -> Iterator[RankProcesses]:
    with closing(RankProcesses(count, folder)) as processes:
        yield processes


def _serve(pipe: Connection) -> None:
    torch.set_num_threads(1)
    MODELS.update(TINY_NETWORKS)
    while (call := pipe.recv()) is not None:
        try:
            pipe.send((None, _train(*call)))
        except BaseException:
            pipe.send((traceback.format_exc(), None))


def _ranks(
    rank: int, size: int, path: str, device: torch.device, shares_batch_norm: bool
) -> GroupRanks:
    store = dist.FileStore(path, size)
    return GroupRanks(rank, size, store, device, shares_batch_norm=shares_batch_norm)


def _train(text: str, group: Any, whole_batch_norm: bool, lead: Lead, content: bytes) -> Any:
    state = pickle.loads(content)
    trial = TrialSpec.model_validate_json(text)
    with closing(_ranks(*group, whole_batch_norm)) as ranks:
        trainer = build_trainer(trial, CPU, ranks=ranks)
        with closing(trainer.data):
            if state is not None:
                trainer.load_state_dict(state)
            return lead(trainer) if ranks.leads else trainer.follow()


class AllParts:
    """One process that computes every rank's part of a step: batch norms apart, one update."""

    def __init__(self, trial: TrialSpec, size: int) -> None:
        self.trainer = build_trainer(trial, CPU)
        self.parts = [Part(index, size) for index in range(size)]
        method, networks = self.trainer.method, self.trainer.networks
        self._recorder = record_maps(trial, method, networks)
        self.data = open_data(trial, views=method.views)
        self.links: list[dict[tuple[str, str], list[float]]] = []
        self.paused: list[frozenset[str]] = []

    def run_epoch(self) -> None:
        trainer = self.trainer
        for name, network in trainer.networks.items():
            network.train(name in trainer.optimizers)
        for images, targets, indices in self.data.train_epoch():
            views = images if isinstance(images, tuple) else (images,)
            self._step(views, targets, indices)
        for scheduler in trainer.schedulers.values():
            scheduler.step()

    def _step(self, views: tuple[Tensor, ...], targets: Tensor, indices: Tensor) -> None:
        trainer, method = self.trainer, self.trainer.method
        shares = [len(part.of(range(len(targets)))) / len(targets) for part in self.parts]
        asked: list[tuple[Any, ...]] = []
        kept: list[Tensor] = []
        for part in self.parts:
            logits = self._logits([view[part.slice_of(len(view))] for view in views])
            # what a batch norm remembers is that of the first part
            kept = kept or [buffer.clone() for buffer in self._buffers()]
            maps = self._recorder.take() if self._recorder else None
            asked.append((logits, part.of(targets), maps, part.of(indices)))
        means = sum(
            share * self._distances(logits, labels)
            for share, (logits, labels, *_) in zip(shares, asked, strict=True)
        )
        method.average_over_ranks = lambda _: means
        steps: list[CohortStep] = [method(*each) for each in asked]
        self.links.append({link: list(map(float, s)) for link, s in steps[0].links.items()})
        self.paused.append(steps[0].paused)
        for name, optimizer in trainer.optimizers.items():
            if name in steps[0].paused:
                continue
            optimizer.zero_grad()
            for share, step in zip(shares, steps, strict=True):
                (step.losses[name] * share).backward()
            optimizer.step()
        for buffer, of_first in zip(self._buffers(), kept, strict=True):
            buffer.copy_(of_first)

    def _logits(self, views: list[Tensor]) -> dict[str, Tensor]:
        found = {}
        for position, (name, network) in enumerate(self.trainer.networks.items()):
            images = views[position % len(views)].to(next(network.parameters()).dtype)
            with torch.set_grad_enabled(name in self.trainer.optimizers):
                found[name] = network(images.contiguous(memory_format=torch.channels_last))
        return found

    def _buffers(self) -> list[Tensor]:
        return [each for net in self.trainer.networks.values() for each in net.buffers()]

    @torch.no_grad()
    def _distances(self, logits: dict[str, Tensor], labels: Tensor) -> Tensor:
        method = self.trainer.method
        if not method.links:
            return torch.zeros(())
        probabilities = {
            name: torch.log_softmax(full_precision(z) / method.temperature, dim=1).exp()
            for name, z in logits.items()
        }
        gaps = [probability_gap(probabilities[s], probabilities[t]) for t, s in method.links]
        named = dict.fromkeys(name for link in method.links for name in link)
        return torch.stack([*gaps, *(label_distance(probabilities[n], labels) for n in named)])
