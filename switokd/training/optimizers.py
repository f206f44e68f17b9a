"""Optimizers and learning-rate schedules, as the spec names them (`switokd.spec.recipe`)."""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn
from torch.optim import SGD, Adam, Optimizer
from torch.optim.lr_scheduler import (
    CosineAnnealingLR,
    LinearLR,
    LRScheduler,
    MultiStepLR,
    SequentialLR,
)

from switokd.spec.recipe import OPTIMIZERS, SCHEDULES, NetworkSpec, Recipe

MILESTONE_FACTOR = 0.1
WARMUP_START = 0.01


def build_optimizer(modules: Iterable[nn.Module], spec: NetworkSpec) -> Optimizer:
    """The network's optimizer over all parameters of some modules, in one group."""
    parameters = [parameter for module in modules for parameter in module.parameters()]
    optimizer: Optimizer = OPTIMIZERS.load(spec.optimizer)(parameters, spec)
    return optimizer


def sgd(parameters: list[nn.Parameter], spec: NetworkSpec) -> Optimizer:
    return SGD(
        parameters,
        lr=spec.learning_rate,
        momentum=spec.momentum,
        weight_decay=spec.weight_decay,
        fused=True,
    )


def adam(parameters: list[nn.Parameter], spec: NetworkSpec) -> Optimizer:
    return Adam(parameters, lr=spec.learning_rate, weight_decay=spec.weight_decay, fused=True)


def build_schedule(optimizer: Optimizer, recipe: Recipe) -> LRScheduler:
    """The learning rate by epoch, which counts from 1.

    With warm-up it rises linearly over the first `warmup_epochs`. Milestones still count from the
    first epoch; what spans the whole training spans the epochs that remain.
    """
    warmup = recipe.warmup_epochs
    main: LRScheduler = SCHEDULES.load(recipe.schedule)(optimizer, recipe)
    if not warmup:
        return main
    rise = LinearLR(optimizer, start_factor=WARMUP_START, total_iters=warmup)
    return SequentialLR(optimizer, [rise, main], milestones=[warmup])


def step_schedule(optimizer: Optimizer, recipe: Recipe) -> LRScheduler:
    """x 0.1 at the start of each milestone epoch."""
    starts = [milestone - 1 - recipe.warmup_epochs for milestone in recipe.milestones]
    return MultiStepLR(optimizer, milestones=starts, gamma=MILESTONE_FACTOR)


def cosine_schedule(optimizer: Optimizer, recipe: Recipe) -> LRScheduler:
    """Half a cosine, down to 0 after the last epoch."""
    return CosineAnnealingLR(optimizer, T_max=recipe.epochs - recipe.warmup_epochs)
