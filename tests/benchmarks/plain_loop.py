"""The yardstick: SwitOKD as a typical research script trains it. Never used by the product.

DataLoader with torchvision transforms and worker processes, float32, eager, one parameter group
per tensor, one-hot labels, each softmax where it is needed, `.item()` for decisions and logs.
"""

from __future__ import annotations

import gc
import math
from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

MEAN, STD = (0.507, 0.487, 0.441), (0.267, 0.256, 0.276)


class Pictures(Dataset[tuple[Tensor, int]]):
    """Images uint8 (N, 32, 32, 3) through PIL and the transforms, one by one."""

    def __init__(self, images: np.ndarray, labels: np.ndarray) -> None:
        self.images = images
        self.labels = labels
        self.transform = transforms.Compose(
            [
                transforms.RandomCrop(32, padding=4),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
                transforms.Normalize(MEAN, STD),
            ]
        )

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.images[index])), int(self.labels[index])


def endless(
    images: np.ndarray, labels: np.ndarray, batch_size: int, workers: int, pin: bool
) -> Iterator[tuple[Tensor, Tensor]]:
    """The batches of such a script, epoch after epoch, from worker processes that stay."""
    loader = DataLoader(
        Pictures(images, labels),
        batch_size=batch_size,
        shuffle=True,
        num_workers=workers,
        pin_memory=pin,
        persistent_workers=True,
    )
    # a worker that collected a CUDA graph of the process it is a fork of would abort
    gc.collect()
    gc.freeze()
    iter(loader)
    gc.unfreeze()
    while True:
        yield from loader


class PlainCohort:
    """One teacher, any number of students, trained as the scripts do it.

    `mode`: "learning" and "expert" force the teacher's mode; "free" decides it, or replays
    `modes` (True for expert) where they are given.
    """

    def __init__(
        self,
        teacher: nn.Module,
        students: list[nn.Module],
        learning_rates: list[float],
        num_classes: int,
        device: torch.device,
    ) -> None:
        self.networks = [teacher.to(device), *(student.to(device) for student in students)]
        self.num_classes = num_classes
        self.device = device
        self.optimizers = [
            torch.optim.SGD(
                [{"params": [parameter], "lr": rate} for parameter in network.parameters()],
                lr=rate,
                momentum=0.9,
                weight_decay=5e-4,
                foreach=False,
            )
            for network, rate in zip(self.networks, learning_rates, strict=True)
        ]
        self.losses: list[list[float]] = []

    def train(
        self, batches: Iterator[tuple[Tensor, Tensor]], mode: str, modes: list[bool] | None = None
    ) -> int:
        """Train on all batches; the number of images."""
        count = 0
        for network in self.networks:
            network.train()
        for step, (images, labels) in enumerate(batches):
            images, labels = images.to(self.device), labels.to(self.device)
            replayed = None if modes is None else modes[step % len(modes)]
            self.step(images, labels, mode, replayed)
            count += len(images)
        return count

    def step(self, images: Tensor, labels: Tensor, mode: str, replayed: bool | None) -> bool:
        """One step; whether the teacher was in expert mode."""
        logits = [network(images) for network in self.networks]
        one_hot = F.one_hot(labels, self.num_classes).float()
        expert = True
        for student in logits[1:]:
            gap = (F.softmax(student, 1) - F.softmax(logits[0], 1)).abs().sum(1).mean().item()
            d_s = (F.softmax(student, 1) - one_hot).abs().sum(1).mean().item()
            d_t = (F.softmax(logits[0], 1) - one_hot).abs().sum(1).mean().item()
            threshold = d_s - math.exp(-d_t / (d_s + d_t)) * d_t
            expert = expert and gap > threshold and d_t < d_s
        expert = {"learning": False, "expert": True}.get(mode, expert)
        expert = expert if replayed is None else replayed
        losses = []
        for index, own in enumerate(logits):
            loss = F.cross_entropy(own, labels)
            for other, peer in enumerate(logits):
                if other != index and not (index == 0 and expert):
                    loss = loss + F.kl_div(
                        F.log_softmax(own, 1), F.softmax(peer.detach(), 1), reduction="batchmean"
                    )
            losses.append(loss)
        for index, (optimizer, loss) in enumerate(zip(self.optimizers, losses, strict=True)):
            if index == 0 and expert:
                continue
            optimizer.zero_grad(set_to_none=False)
            loss.backward()
            optimizer.step()
        self.losses.append([loss.item() for loss in losses])
        return expert
