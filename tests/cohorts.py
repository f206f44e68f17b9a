"""Tiny cohorts: networks, data and a real trainer that take milliseconds a step."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from switokd.methods import build_method
from switokd.spec.recipe import NetworkSpec, Recipe
from switokd.training.optimizers import build_optimizer, build_schedule
from switokd.training.trainer import Trainer

CLASSES = 6
IMAGE_SHAPE = (1, 4, 4)
TRAIN_IMAGES = 28
BATCH_SIZE = 8  # 28 = 3 x 8 + 4: the last batch of an epoch is a partial one
STEPS_PER_EPOCH = 4
WIDTHS = {"T1": 24, "T2": 20, "T3": 16, "S1": 8, "S2": 10, "S3": 12}
MOMENTUM = 0.9
WEIGHT_DECAY = 5e-4
MILESTONES = (2,)
HEAD_GAIN = 14.0  # confident predictions that disagree: both modes occur within a few steps

# no gap is below 0 and none above 2: every link in one mode, whatever the weights
ALL_EXPERT = {"threshold": 0.0, "require_better_teacher": False}
ALL_LEARNING = {"threshold": 2.0}


class TinyNetwork(nn.Module):
    """Linear, batch norm, ReLU, dropout (where asked for), linear."""

    def __init__(self, width: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.hidden = nn.Linear(IMAGE_SHAPE[1] * IMAGE_SHAPE[2], width)
        self.norm = nn.BatchNorm1d(width)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(width, CLASSES)
        nn.init.normal_(self.head.weight, std=HEAD_GAIN / width)

    def forward(self, images: Tensor) -> Tensor:
        active = torch.relu(self.norm(self.hidden(images.flatten(1))))
        logits: Tensor = self.head(self.dropout(active))
        return logits


class TinyData:
    """Shuffled noise around one image per class; as `trainer.Batches` asks."""

    num_classes = CLASSES
    steps_per_epoch = STEPS_PER_EPOCH

    def __init__(self, seed: int = 0, device: str = "cpu") -> None:
        fixed = torch.Generator().manual_seed(0)
        centres = torch.randn(CLASSES, *IMAGE_SHAPE, generator=fixed)
        self.splits = {}
        for split, count in (("train", TRAIN_IMAGES), ("test", 30), ("holdout", 17)):
            labels = torch.arange(count) % CLASSES
            noise = torch.randn(count, *IMAGE_SHAPE, generator=fixed)
            self.splits[split] = ((centres[labels] + noise).to(device), labels.to(device))
        self.generator = torch.Generator().manual_seed(seed)
        self.epoch_start: Tensor | None = None

    def images_of_step(self, step: int) -> int:
        return min(BATCH_SIZE, TRAIN_IMAGES - step * BATCH_SIZE)

    def train_epoch(self, start_step: int = 0) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        self.epoch_start = self.generator.get_state()
        order = torch.randperm(TRAIN_IMAGES, generator=self.generator)
        images, labels = self.splits["train"]
        for chosen in order.split(BATCH_SIZE)[start_step:]:
            yield images[chosen], labels[chosen], chosen
        self.epoch_start = None

    def evaluation(self, split: str) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        images, labels = self.splits[split]
        places = torch.arange(len(labels), device=labels.device)
        return zip(images.split(7), labels.split(7), places.split(7), strict=True)

    def state_dict(self) -> dict[str, Any]:
        in_progress = self.epoch_start is not None
        return {"generator": self.epoch_start if in_progress else self.generator.get_state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.generator.set_state(state["generator"])
        self.epoch_start = None


def tiny_networks(
    teachers: int = 1, students: int = 1, *, seed: int = 0, dropout: float = 0.0
) -> dict[str, TinyNetwork]:
    """Networks T1.. and S1.., each with weights of its own, whatever else the cohort has."""
    names = [f"T{n + 1}" for n in range(teachers)] + [f"S{n + 1}" for n in range(students)]
    networks = {}
    for name in names:
        digest = hashlib.sha256(f"{name} {seed}".encode()).digest()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int.from_bytes(digest[:4], "little"))
            networks[name] = TinyNetwork(WIDTHS[name], dropout)
    return networks


def tiny_trainer(
    method: str = "switokd",
    *,
    teachers: int = 1,
    students: int = 1,
    temperature: float = 1.0,
    epochs: int = 2,
    learning_rates: dict[str, float] | None = None,
    optimizer: str = "sgd",
    precision: str = "fp64",
    seed: int = 0,
    dropout: float = 0.0,
    device: str = "cpu",
    patience: int | None = None,
    **settings: Any,
) -> Trainer:
    """The real trainer over tiny networks; the learning rate falls to a tenth in epoch 2."""
    networks = tiny_networks(teachers, students, seed=seed, dropout=dropout)
    place = torch.device(device)
    recipe = Recipe(epochs=epochs, milestones=MILESTONES if epochs > 1 else ())
    optimizers, schedules = {}, {}
    for name, network in networks.items():
        network.to(place, torch.float64 if precision == "fp64" else torch.float32)
        spec = NetworkSpec(
            model="resnet20",  # stands for any: the optimizer reads the rates alone
            optimizer=optimizer,
            learning_rate=(learning_rates or {}).get(name, 0.05),
            momentum=MOMENTUM,
            weight_decay=WEIGHT_DECAY,
        )
        optimizers[name] = build_optimizer([network], spec)
        schedules[name] = build_schedule(optimizers[name], recipe)
    return Trainer(
        networks=networks,
        method=build_method(
            method, teachers=teachers, students=students, temperature=temperature, **settings
        ),
        optimizers=optimizers,
        schedulers=schedules,
        data=TinyData(seed, device),
        epochs=epochs,
        device=place,
        precision=precision,
        patience=patience,
    )


def weights_of(network: nn.Module) -> dict[str, Tensor]:
    """A copy of everything in a network's state dict, batch-norm statistics included."""
    return {key: value.detach().clone() for key, value in network.state_dict().items()}


def parameters_of(trainer: Trainer, name: str) -> dict[str, Tensor]:
    """A copy of what an optimizer moves of one network."""
    network = trainer.networks[name]
    return {key: value.detach().clone() for key, value in network.named_parameters()}


def momentum_of(trainer: Trainer, name: str) -> dict[str, Tensor]:
    """A copy of one network's momentum buffers, by parameter name."""
    state = trainer.optimizers[name].state
    return {
        key: state[parameter]["momentum_buffer"].detach().clone()
        for key, parameter in trainer.networks[name].named_parameters()
        if "momentum_buffer" in state.get(parameter, {})
    }


def same_bits(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    """Whether two mappings of tensors are equal to the last bit."""
    return first.keys() == second.keys() and all(
        torch.equal(value, second[key]) for key, value in first.items()
    )
