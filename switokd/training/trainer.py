"""The training loop of a cohort: the only one there is.

It receives built objects and knows no method, network or data set by name. What a step queues on
the device, and in which order, is the engine's (`switokd.training.engines`).
"""

from __future__ import annotations

import contextlib
import math
import time
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from switokd.methods.base import CohortStep, Link, Method
from switokd.methods.losses import Predictions
from switokd.training.engines import Cohort, EagerEngine
from switokd.training.evaluation import Scores, agreement, predict, score
from switokd.training.exclusive import BUILDING, GPU
from switokd.training.maps import MapRecorder
from switokd.training.random_states import own_states, random_states, set_random_states
from switokd.training.ranks import ALONE, Command, EndedError, Ranks
from switokd.training.teachers import FrozenOutputs, StateDict, TrainedTeachers
from switokd.training.timeline import DivergedError, Timeline

Images = Tensor | tuple[Tensor, ...]


class Batches(Protocol):
    """What the loop needs of the data; `switokd.data.open_pipeline` gives it."""

    @property
    def steps_per_epoch(self) -> int: ...
    def images_of_step(self, step: int) -> int: ...
    def train_epoch(self, start_step: int = 0) -> Iterator[tuple[Images, Tensor, Tensor]]: ...
    def evaluation(self, split: Any) -> Iterator[tuple[Images, Tensor, Tensor]]: ...
    def evaluation_size(self, split: Any) -> int: ...
    @property
    def num_classes(self) -> int: ...
    @property
    def image_size(self) -> int: ...
    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state: dict[str, Any]) -> None: ...
    def close(self) -> None: ...


@dataclass(frozen=True)
class EpochReport:
    """What one epoch came to; mappings are by network or by link.

    Learning rates are the epoch's own; losses are means over its images; `images_per_second`
    counts the training steps alone, without evaluation.
    """

    epoch: int
    learning_rates: dict[str, float]
    train_losses: dict[str, float]
    cross_entropies: dict[str, float]
    scores: dict[str, Scores]
    agreements: dict[Link, float]
    images_per_second: float


@dataclass
class Best:
    """The best epoch of one network on the evaluation split, and its weights on the host."""

    epoch: int = 0
    top1: float = -1.0
    weights: dict[str, Tensor] = field(default_factory=dict)


class Trainer:
    """Trains `networks` together for `epochs` epochs; resumable at every step.

    `optimizers` and `schedulers` (stepped after each epoch) are by network. `precision`: fp32,
    bf16 (autocast over float32 weights) or fp64 (the reference; the networks are float64).
    `patience`: training ends early after so many epochs in which no student's top-1 on the
    evaluation split got better; None trains all epochs. `maps` keeps what the method asks for
    inside the networks; `attached` are the method's own modules, by the network whose optimizer
    has their parameters. `engine` carries the steps out. `teachers`: the weights of trained ones,
    by network and the epoch up to which they teach; `outputs`: of networks that only teach,
    computed once where images stay the same. `snapshots`: the epochs after which the weights of all
    networks are kept. `ranks`: the processes that train the trial together, each with such a
    trainer: that of rank 0 is asked, the others `follow`.
    """

    def __init__(
        self,
        *,
        networks: Mapping[str, nn.Module],
        method: Method,
        optimizers: Mapping[str, Optimizer],
        schedulers: Mapping[str, LRScheduler],
        data: Batches,
        epochs: int,
        device: torch.device,
        precision: str = "fp32",
        evaluation_split: str = "test",
        patience: int | None = None,
        maps: MapRecorder | None = None,
        attached: Mapping[str, nn.Module] | None = None,
        engine: type[EagerEngine] = EagerEngine,
        teachers: Mapping[str, Mapping[int, StateDict]] | None = None,
        outputs: FrozenOutputs | None = None,
        snapshots: Collection[int] = (),
        ranks: Ranks = ALONE,
    ) -> None:
        self.networks = dict(networks)
        self.optimizers = dict(optimizers)
        self.schedulers = dict(schedulers)
        self.data = data
        self.epochs = epochs
        self.device = device
        self.evaluation_split = evaluation_split
        self.patience = patience
        self.attached = dict(attached or {})
        self.ranks = ranks
        self._frozen = frozenset(n for n in self.networks if not method.demand(n).trained)
        self.teachers = TrainedTeachers(self.networks, teachers or {})
        self.snapshots: dict[int, dict[str, dict[str, Tensor]]] = {}
        self._snapshots_after = frozenset(snapshots)
        # on the evaluation split
        self._frozen_logits: dict[str, Tensor] = {}
        for name in self.optimizers:
            for module in (self.networks[name], self.attached.get(name)):
                if module is not None:
                    ranks.synchronize(module)
        called = {
            name: ranks.wrap(network) if name in self.optimizers else network
            for name, network in self.networks.items()
        }
        if ranks.size > 1:
            assert method.settings.divisible, "checked where ranks are asked for"
            method.average_over_ranks = ranks.average
        of_all = (self.attached, ranks)
        self._cohort = Cohort(
            called, method, self.optimizers, device, precision, maps, outputs, *of_all
        )
        dtype, switches = self._cohort.dtype, method.settings.switches
        self.timeline = Timeline(method.networks, method.links, device, dtype, switches, ranks)
        self.best = {name: Best() for name in self.networks}
        self.train_seconds = 0.0
        self.epoch = 0
        self.step_in_epoch = 0
        self.epoch_seconds = 0.0
        self._engine = engine(self._cohort, self.timeline)

    @property
    def method(self) -> Method:
        return self._cohort.method

    @property
    def frozen_outputs(self) -> FrozenOutputs | None:
        """What networks that only teach say of the training images, where it is kept."""
        return self._cohort.outputs

    @property
    def step(self) -> int:
        """Finished training steps."""
        return len(self.timeline)

    @property
    def total_steps(self) -> int:
        return self.epochs * self.data.steps_per_epoch

    @property
    def stopped_early(self) -> bool:
        """Whether no student's evaluation has got better for `patience` epochs."""
        if self.patience is None:
            return False
        latest_best = max(self.best[name].epoch for name in self.method.students)
        return self.epoch - latest_best >= self.patience

    @property
    def done(self) -> bool:
        return self.epoch >= self.epochs or self.stopped_early

    def run_epoch(self, go_on: Callable[[], bool] | None = None) -> EpochReport | None:
        """Train one epoch, or the rest of one, and evaluate it.

        `go_on` is asked after each step but the last, with the trainer in a state that can be
        saved; where it answers False, the epoch is left there and None returned. Raises
        DivergedError where a loss was not finite.
        """
        rates = {name: opt.param_groups[0]["lr"] for name, opt in self.optimizers.items()}
        if not self._train(go_on):
            return None
        self._end_epoch()
        report = self._report(rates)
        self.epoch_seconds = 0.0
        return report

    def follow(self) -> None:
        """Another rank than 0: take part in what rank 0 does, until it ends the trial."""
        with contextlib.suppress(EndedError):
            try:
                while True:
                    self._train()
                    self._end_epoch()
                    self.epoch_seconds = 0.0
            except DivergedError:
                # rank 0 has met it too
                self._meet(Command.END)

    def _meet(self, command: Command) -> None:
        """Where all ranks do the same next: rank 0 says so, and the others await it."""
        if self.ranks.leads:
            self.ranks.announce(command)
        else:
            errands = {Command.FLUSH: self.timeline.flush, Command.RANDOM: self._random_states}
            self.ranks.await_(command, errands)

    def _end_epoch(self) -> None:
        with warnings.catch_warnings():
            # a teacher may pause for a whole epoch; its schedule goes on all the same
            warnings.filterwarnings("ignore", "Detected call of `lr_scheduler.step")
            for scheduler in self.schedulers.values():
                scheduler.step()
        self.epoch += 1
        self.step_in_epoch = 0

    def _train(self, go_on: Callable[[], bool] | None = None) -> bool:
        if self.step_in_epoch == 0:
            self._meet(Command.EPOCH)
            if self.method.settings.needs_holdout:
                self._refresh()
        for name, network in self.networks.items():
            network.train(name not in self._frozen)
        if self.step_in_epoch:
            # the epoch in progress is drawn again, and its first steps skipped
            self.data.load_state_dict(self.data.state_dict())
        started = time.perf_counter() - self.epoch_seconds
        self._prepare_teachers()
        for images, targets, indices in self.data.train_epoch(self.step_in_epoch):
            GPU.give_way()
            self._meet(Command.STEP)
            self.ranks.begin_batch(self.data.images_of_step(self.step_in_epoch))
            self.train_step(images, targets, indices)
            self.ranks.end_batch()
            self.step_in_epoch += 1
            if go_on is not None and self.step_in_epoch < self.data.steps_per_epoch:
                self.epoch_seconds = time.perf_counter() - started
                if not go_on():
                    return False
                # saving is not training
                started = time.perf_counter() - self.epoch_seconds
        self.timeline.flush()
        self.epoch_seconds = time.perf_counter() - started
        self.train_seconds += self.epoch_seconds
        return True

    def _refresh(self) -> None:
        """Let the method learn from held-out images: rank 0's answer is everyone's."""
        if self.ranks.leads:
            self.method.refresh(Predictions(*self._predict("holdout")))
        if self.ranks.size > 1:
            self.method.load_state_dict(self.ranks.share(self.method.state_dict()))

    def _random_states(self) -> list[dict[str, Tensor]]:
        """Of torch's global generators, by rank."""
        return self.ranks.gather(random_states(self.device))

    def _prepare_teachers(self) -> None:
        """Let networks that only teach say what they have to say of this epoch's images."""
        outputs = self._cohort.outputs
        if self.teachers.prepare(self.epoch):
            self._frozen_logits.clear()
            if outputs is not None:
                outputs.ready = False
        if outputs is not None and not outputs.ready:
            outputs.fill(self.data.evaluation("train"), self._cohort.autocast())

    def train_step(
        self, images: Images, targets: Tensor, indices: Tensor | None = None
    ) -> CohortStep:
        """One step of the cohort on images (B, C, H, W), or one view per network, and labels (B,).

        `indices` (B,) say which training images these are, for whom it matters.
        All forward passes use the weights from before the step. A paused network has neither a
        backward pass nor an optimizer step.
        """
        views = images if isinstance(images, tuple) else (images,)
        return self._engine.step(views, targets, indices)

    def evaluate(self, split: str) -> tuple[dict[str, Scores], dict[Link, float]]:
        """Every network's scores on a split, and every link's agreement (0 to 1)."""
        return self._scores(*self._predict(split))

    def _scores(
        self, logits: Mapping[str, Tensor], targets: Tensor
    ) -> tuple[dict[str, Scores], dict[Link, float]]:
        scores = {name: score(z, targets) for name, z in logits.items()}
        return scores, {
            (teacher, student): agreement(logits[teacher], logits[student])
            for teacher, student in self.method.links
        }

    def _predict(
        self, split: str, remembered: dict[str, Tensor] | None = None
    ) -> tuple[dict[str, Tensor], Tensor]:
        """Logits of every network, and labels.

        `remembered` has those of networks that only teach from the last time, and is given them.
        """
        cohort, known = self._cohort, {} if remembered is None else remembered
        asked = {name: each for name, each in self.networks.items() if name not in known}
        batches = self.data.evaluation(split)
        logits, targets = predict(asked, batches, cohort.autocast(), cohort.dtype)
        logits |= known
        if remembered is not None:
            remembered |= {name: logits[name] for name in self._frozen}
        return {name: logits[name] for name in self.networks}, targets

    def _report(self, learning_rates: dict[str, float]) -> EpochReport:
        predicted = self._predict(self.evaluation_split, self._frozen_logits)
        scores, agreements = self._scores(*predicted)
        for name, result in scores.items():
            # the last update of an epoch shows in no training loss of that epoch
            if not math.isfinite(result.loss):
                raise DivergedError(self.step, name, result.loss)
            if result.top1 > self.best[name].top1:
                self.best[name] = Best(self.epoch, result.top1, _copies(self.networks[name]))
        if self.epoch in self._snapshots_after:
            self.snapshots[self.epoch] = {n: _copies(net) for n, net in self.networks.items()}
        steps = self.data.steps_per_epoch
        losses = {name: self.timeline.mean_losses(name, steps) for name in self.networks}
        return EpochReport(
            epoch=self.epoch,
            learning_rates=learning_rates,
            train_losses={name: total for name, (total, _) in losses.items()},
            cross_entropies={name: cross_entropy for name, (_, cross_entropy) in losses.items()},
            scores=scores,
            agreements=agreements,
            images_per_second=self.timeline.images(steps) / self.epoch_seconds,
        )

    def state_dict(self) -> dict[str, Any]:
        """Everything later processes need to go on as if there had been no stop."""
        self.ranks.announce(Command.RANDOM)
        own, *of_others = self._random_states()
        random: dict[str, Any] = {**own, "others": of_others} if of_others else {**own}
        return {
            "epoch": self.epoch,
            "step_in_epoch": self.step_in_epoch,
            "train_seconds": self.train_seconds,
            "epoch_seconds": self.epoch_seconds,
            "networks": {n: network.state_dict() for n, network in self.networks.items()},
            "optimizers": {n: optimizer.state_dict() for n, optimizer in self.optimizers.items()},
            "schedulers": {n: scheduler.state_dict() for n, scheduler in self.schedulers.items()},
            "method": self.method.state_dict(),
            "attached": {n: module.state_dict() for n, module in self.attached.items()},
            "data": self.data.state_dict(),
            "random": random,
            "timeline": self.timeline.state_dict(),
            "best": {n: [b.epoch, b.top1, b.weights] for n, b in self.best.items()},
            "snapshots": self.snapshots,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave."""
        self._engine.forget()
        self._frozen_logits.clear()
        if self._cohort.outputs is not None:
            # a network that only teaches may be another now
            self._cohort.outputs.ready = False
        self.epoch = state["epoch"]
        self.step_in_epoch = state["step_in_epoch"]
        self.train_seconds = state["train_seconds"]
        self.epoch_seconds = state["epoch_seconds"]
        for name in self.networks:
            self.networks[name].load_state_dict(state["networks"][name])
        for name, module in self.attached.items():
            module.load_state_dict(state["attached"][name])
        for name in self.optimizers:
            self.optimizers[name].load_state_dict(state["optimizers"][name])
            self.schedulers[name].load_state_dict(state["schedulers"][name])
        self.method.load_state_dict(state["method"])
        self.data.load_state_dict(state["data"])
        random = own_states(state["random"], self.ranks.rank)
        if random is not None:
            with BUILDING:
                set_random_states(random, self.device)
        self.timeline.load_state_dict(state["timeline"])
        self.best = {name: Best(*values) for name, values in state["best"].items()}
        kept = state.get("snapshots", {})
        self.snapshots = {epoch: kept[epoch] for epoch in kept if epoch in self._snapshots_after}


def _copies(network: nn.Module) -> dict[str, Tensor]:
    return {key: value.to("cpu", copy=True) for key, value in network.state_dict().items()}
