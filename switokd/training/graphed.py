"""The engine of CUDA graphs: a step's operations are recorded once and queued as a few units.

Steps of small cohorts are bound by the host, which takes longer to launch an operation than the GPU
to carry it out. A graph launches hundreds at once. The step is cut where the host decides: one
graph for the forward passes, the method and the flags, one for the networks that never pause, one
for each network that may. The host reads the flags while the second runs, and replays or leaves out
the others: semantics and order are the eager engine's.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor
from torch.optim import Optimizer

from switokd.methods.base import CohortStep
from switokd.training.engines import Cohort, EagerEngine, Views
from switokd.training.exclusive import GPU
from switokd.training.timeline import Timeline

# so many steps of one shape are taken eagerly first: libraries choose their algorithms meanwhile
EAGER_STEPS = 3


class Batch(NamedTuple):
    """What a step is of: views (B, C, H, W), labels (B,), and which training images they are."""

    views: Views
    targets: Tensor
    indices: Tensor | None


class GraphedEngine(EagerEngine):
    """Replays recorded steps; what cannot be recorded is carried out eagerly.

    That are the first steps, batches of another size (the last of an epoch), fp64, steps of several
    processes, and methods that are not `recordable`. On a CPU there is nothing to record: the same
    parts run one by one.
    """

    def __init__(self, cohort: Cohort, timeline: Timeline) -> None:
        super().__init__(cohort, timeline)
        self._stream = recording_stream(cohort.device)
        self._rates = {name: RateOnDevice(opt) for name, opt in cohort.optimizers.items()}
        self._recordable = (
            cohort.method.recordable and cohort.precision != "fp64" and cohort.ranks.size == 1
        )
        self._recording: Recording | None = None
        self._shapes: tuple[torch.Size, ...] = ()
        self._steps_of_shape = 0
        self._pausing: frozenset[str] = frozenset()

    def forget(self) -> None:
        """Record anew: a recording knows tensors by their addresses."""
        self._recording = None
        self._steps_of_shape = 0

    def update(self, name: str, step: CohortStep) -> None:
        """The same for a step that is recorded and for one that is not: equal to the last bit."""
        if not self._recordable:
            # fp64 has no use for a rate in single precision
            super().update(name, step)
            return
        with self._rates[name].in_force():
            self.cohort.update(name, step)

    def step(self, views: Views, targets: Tensor, indices: Tensor | None = None) -> CohortStep:
        """As the eager engine's step. The answer's tensors are overwritten by the next step."""
        for rate in self._rates.values():
            rate.send()
        shapes = tuple(view.shape for view in views)
        if self._recording is None and self._recordable:
            self._steps_of_shape = self._steps_of_shape + 1 if shapes == self._shapes else 1
            self._shapes = shapes
            if self._steps_of_shape > EAGER_STEPS:
                recorder = Recorder(self._stream)
                batch = Batch(views, targets, indices)
                self._recording = Recording(self, self._pausing, batch, recorder)
        if self._recording is not None and shapes == self._shapes:
            return self._recording.step(Batch(views, targets, indices))
        step = self._eager_step(views, targets, indices)
        self._pausing = frozenset(step.pause_flags)
        return step

    def _eager_step(self, views: Views, targets: Tensor, indices: Tensor | None) -> CohortStep:
        if self._stream is None:
            return super().step(views, targets, indices)
        # autograd remembers on which stream it met a weight: it must be the recordings' own
        main = torch.cuda.current_stream(self.cohort.device)
        self._stream.wait_stream(main)
        with torch.cuda.stream(self._stream):
            step = super().step(views, targets, indices)
        main.wait_stream(self._stream)
        return step


class Recording:
    """The recorded parts of a step on batches of one shape, over tensors that stay in place.

    `pausing`: the networks that may pause, each of which is updated by a part of its own.
    """

    def __init__(
        self,
        engine: GraphedEngine,
        pausing: frozenset[str],
        batch: Batch,
        recorder: Recorder,
    ) -> None:
        self.cohort, self.timeline, self.flags = engine.cohort, engine.timeline, engine.flags
        self.update = engine.update
        self._views = tuple(
            torch.empty_like(view, dtype=self.cohort.dtype, memory_format=torch.channels_last)
            for view in batch.views
        )
        self._targets = torch.empty_like(batch.targets)
        self._indices = None if batch.indices is None else torch.empty_like(batch.indices)
        for optimizer in self.cohort.optimizers.values():
            create_state(optimizer)
        self._fill(batch)
        updates = {n: functools.partial(self._update, n) for n in self.cohort.optimizers}
        always = [update for name, update in updates.items() if name not in pausing]
        self._look = recorder.record([self._look_at_batch])
        self._learn = recorder.record(always)
        self._resume = {name: recorder.record([updates[name]]) for name in pausing}

    def step(self, batch: Batch) -> CohortStep:
        """One step, in the eager engine's order."""
        self._fill(batch)
        self._look()
        self.flags.mark()
        self.timeline.record_row(self._row, images=len(batch.targets))
        self._learn()
        paused = self.flags.receive()
        for name, update in self._resume.items():
            if name not in paused:
                update()
        return self.step_now

    def _fill(self, batch: Batch) -> None:
        for place, view in zip(self._views, batch.views, strict=True):
            place.copy_(view)
        self._targets.copy_(batch.targets)
        if self._indices is not None and batch.indices is not None:
            self._indices.copy_(batch.indices)

    def _look_at_batch(self) -> None:
        self.step_now = self.cohort.look(self._views, self._targets, self._indices)
        self.flags.copy(self.step_now.pause_flags)
        self._row = self.timeline.row(self.step_now)

    def _update(self, name: str) -> None:
        self.update(name, self.step_now)


class Recorder:
    """Records work as CUDA graphs that share one memory pool, to be replayed in their order.

    Without a stream, on a CPU, nothing is recorded.
    """

    def __init__(self, stream: torch.cuda.Stream | None) -> None:
        self._stream = stream
        self._pool = None if stream is None else torch.cuda.graph_pool_handle()

    def record(self, parts: Sequence[Callable[[], None]]) -> Callable[[], None]:
        """What carries out the parts, on the tensors that they use now; nothing is done yet."""

        def work() -> None:
            for part in parts:
                part()

        if self._stream is None:
            return work
        graph = torch.cuda.CUDAGraph()
        # a pinning loader may use the GPU meanwhile
        mode = "thread_local"
        with (
            GPU.alone(),
            torch.cuda.graph(graph, self._pool, self._stream, capture_error_mode=mode),
        ):
            work()
        return graph.replay


def recording_stream(device: torch.device) -> torch.cuda.Stream | None:
    """The stream to record on: this thread's, but never the default one; None on a CPU."""
    if device.type != "cuda":
        return None
    current = torch.cuda.current_stream(device)
    return current if current != torch.cuda.default_stream(device) else torch.cuda.Stream(device)


class RateOnDevice:
    """An optimizer's learning rate as a tensor, which a recorded optimizer step reads.

    The rate on the host, which schedules set and checkpoints hold, stays the one that counts. On
    the device it is a float32 number, as the fused optimizers want it.
    """

    def __init__(self, optimizer: Optimizer) -> None:
        self._optimizer = optimizer
        self._sent: list[float | None] = [None] * len(optimizer.param_groups)
        device = optimizer.param_groups[0]["params"][0].device
        self._tensors = [torch.zeros((), device=device) for _ in self._sent]

    def send(self) -> None:
        """Queue what has changed since the last time."""
        for place, group in enumerate(self._optimizer.param_groups):
            if group["lr"] != self._sent[place]:
                self._sent[place] = group["lr"]
                self._tensors[place].fill_(group["lr"])

    @contextmanager
    def in_force(self) -> Iterator[None]:
        """Here the optimizer's step reads the tensor."""
        groups = self._optimizer.param_groups
        before = [dict(group) for group in groups]
        for group, rate in zip(groups, self._tensors, strict=True):
            group["lr"] = rate
            # Adam asks for this before a graph may record it
            if "capturable" in group and rate.is_cuda:
                group["capturable"] = True
        try:
            yield
        finally:
            for group, old in zip(groups, before, strict=True):
                group.update(old)


@torch.no_grad()
def create_state(optimizer: Optimizer) -> None:
    """Give every parameter the optimizer state of no step yet, where it has none.

    Optimizers make it in their first step. A network that has paused until now has had none, and
    what is made while a graph is recorded would be made anew by every replay. Zeros are what SGD
    and Adam begin with; an SGD that takes its first gradient as momentum does as one that adds it
    to zeros.
    """
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    tensors = [
        {key: value for key, value in optimizer.state[p].items() if isinstance(value, Tensor)}
        for p in parameters
    ]
    if all(tensors):
        return
    states = [{key: value.clone() for key, value in own.items()} for own in tensors]
    values = [p.clone() for p in parameters]
    gradients = [p.grad for p in parameters]
    for p in parameters:
        p.grad = torch.zeros_like(p)
    optimizer.step()
    for p, value, gradient, before in zip(parameters, values, gradients, states, strict=True):
        p.copy_(value)
        p.grad = gradient
        for key, state in optimizer.state[p].items():
            if isinstance(state, Tensor):
                state.copy_(before[key]) if key in before else state.zero_()
