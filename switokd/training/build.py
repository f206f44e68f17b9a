"""The wiring of one trial: what a spec names is built here, and handed to the trainer."""

from __future__ import annotations

import hashlib
import os
from collections import Counter

import torch
from torch import nn
from torch.optim import SGD, Adam, Optimizer
from torch.optim.lr_scheduler import (
    CosineAnnealingLR,
    LinearLR,
    LRScheduler,
    MultiStepLR,
    SequentialLR,
)

from switokd.data import Pipeline, open_pipeline
from switokd.methods import build_method
from switokd.models import build_model
from switokd.models.initialization import initialize
from switokd.spec.recipe import NetworkSpec, Recipe
from switokd.spec.trial import TrialSpec
from switokd.training.trainer import Trainer

MILESTONE_FACTOR = 0.1
WARMUP_START = 0.01


def build_trainer(trial: TrialSpec, device: torch.device) -> Trainer:
    """The trainer of a trial, at its first step, with all its random states set from the seed."""
    _set_global_state(trial)
    method = build_method(
        trial.method.name,
        teachers=len(trial.teachers),
        students=len(trial.students),
        temperature=trial.temperature,
        **dict(trial.method.settings),
    )
    recipe = trial.recipe
    data = open_data(trial, device, method.views)
    networks = build_networks(trial, data.num_classes, device)
    optimizers = {
        name: build_optimizer(networks[name], spec, device) for name, spec in trial.networks.items()
    }
    # one network's weights must not depend on its peers', so this stream starts after all are built
    torch.manual_seed(derive_seed(trial.seed, "dropout"))
    return Trainer(
        networks=networks,
        method=method,
        optimizers=optimizers,
        schedulers={name: build_schedule(opt, recipe) for name, opt in optimizers.items()},
        data=data,
        epochs=recipe.epochs,
        device=device,
        precision=recipe.precision,
        evaluation_split="holdout" if recipe.holdout else "test",
        patience=recipe.patience,
    )


def open_data(trial: TrialSpec, device: torch.device | str = "cpu", views: int = 1) -> Pipeline:
    """The data of a trial; raises DataError for what is missing, damaged or not allowed."""
    return open_pipeline(
        trial.dataset,
        batch_size=trial.recipe.batch_size,
        seed=trial.seed,
        holdout=trial.recipe.holdout,
        image_size=trial.recipe.image_size,
        augmentation=trial.recipe.augmentation,
        views=views,
        device=device,
        path=trial.dataset_path,
        stand_in=trial.stand_in,
    )


def derive_seed(seed: int, *purpose: object) -> int:
    """A seed for one purpose, independent of every other purpose's."""
    text = ":".join(map(str, (seed, *purpose)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1


def build_networks(
    trial: TrialSpec, num_classes: int, device: torch.device
) -> dict[str, nn.Module]:
    """The networks of a trial with their first weights.

    The weights depend on the seed, the network and its initialisation alone, whatever the method
    and the cohort. Where a cohort has one network several times, each further one starts from
    weights of its own (equal ones would stay equal); students are counted first, so that a student
    starts as it does alone.
    """
    networks: dict[str, nn.Module] = {}
    seen: Counter[str] = Counter()
    for name in (*trial.students, *trial.teachers):
        spec = trial.networks[name]
        # weights are drawn on the CPU, so that they are the same on every device
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive_seed(trial.seed, "weights", spec.model, seen[spec.model]))
            network = build_model(spec.model, num_classes)
            initialize(network, spec.init)
        seen[spec.model] += 1
        dtype = torch.float64 if trial.recipe.precision == "fp64" else torch.float32
        network.to(device, dtype).to(memory_format=torch.channels_last)
        if trial.recipe.engine == "compiled":
            # in place, so that state-dict keys stay; fixed shapes: there are two sizes of batch
            network.compile(dynamic=False)
        networks[name] = network
    return {name: networks[name] for name in trial.networks}


def build_optimizer(network: nn.Module, spec: NetworkSpec, device: torch.device) -> Optimizer:
    """SGD with momentum, or Adam, over all parameters of a network in one group."""
    parameters = list(network.parameters())
    if spec.optimizer == "adam":
        return Adam(parameters, lr=spec.learning_rate, weight_decay=spec.weight_decay, fused=True)
    return SGD(
        parameters,
        lr=spec.learning_rate,
        momentum=spec.momentum,
        weight_decay=spec.weight_decay,
        fused=True,
    )


def build_schedule(optimizer: Optimizer, recipe: Recipe) -> LRScheduler:
    """The learning rate by epoch: x 0.1 at the start of each milestone epoch, or a half cosine.

    Epochs count from 1. With warm-up the rate rises linearly over the first `warmup_epochs`; the
    milestones still count from the first epoch, the cosine spans the epochs that remain.
    """
    warmup = recipe.warmup_epochs
    main: LRScheduler
    if recipe.schedule == "cosine":
        main = CosineAnnealingLR(optimizer, T_max=recipe.epochs - warmup)
    else:
        starts = [milestone - 1 - warmup for milestone in recipe.milestones]
        main = MultiStepLR(optimizer, milestones=starts, gamma=MILESTONE_FACTOR)
    if not warmup:
        return main
    rise = LinearLR(optimizer, start_factor=WARMUP_START, total_iters=warmup)
    return SequentialLR(optimizer, [rise, main], milestones=[warmup])


def _set_global_state(trial: TrialSpec) -> None:
    """Set every process-wide switch of torch, also back: workers train one trial after another."""
    deterministic = trial.recipe.deterministic
    if deterministic:
        # cuBLAS reads this when it first starts; without it, deterministic mode raises
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(deterministic)
    torch.backends.cudnn.benchmark = not deterministic
    torch.backends.cudnn.deterministic = deterministic
    torch.manual_seed(derive_seed(trial.seed, "global"))


def choose_device(gpus: float | str) -> torch.device:
    """The GPU, where there is one and the trial may use it; else the CPU."""
    use_gpu = torch.cuda.is_available() and gpus != 0
    return torch.device("cuda" if use_gpu else "cpu")
