"""Contrastive representation distillation: alike for one image, apart for images of other classes.

Source: method.md section 4; Tian et al., Contrastive Representation Distillation, ICLR 2020.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from switokd.methods.base import Link, Surroundings
from switokd.methods.losses import Predictions
from switokd.methods.offline import OfflineMethod
from switokd.methods.settings import CRDSettings
from switokd.switching import full_precision
from switokd.validation import SpecError

# the map that the classifier pools
LAST = "last"


class CRD(OfflineMethod):
    """CE(z_s, y) + weight (L_s + L_t), for each teacher.

    L_s tells the student's embedding of an image with the teacher's remembered one of the same
    image from those with images of other classes; L_t the other way round. With N training images,
    m negatives, h = exp(g . g' / tau) / Z and chance c = m / N:

        L = -mean over the batch of [ log(h+ / (h+ + c)) + sum over negatives of log(c / (h- + c)) ]

    The constant Z is N times the mean of exp(g . g' / tau) over the first batch, and kept.
    """

    settings: CRDSettings

    def maps_of(self, network: str) -> tuple[str, ...]:
        return (LAST,)

    def attach(self, surroundings: Surroundings) -> Mapping[str, nn.Module]:
        self._negatives = Negatives(surroundings.train_labels, surroundings.num_classes)
        widths = {name: surroundings.shapes[name][LAST][0] for name in self.networks}
        size = (surroundings.train_size, self.settings.dimensions)
        # both embeddings of a link are trained with the student: its teacher has no optimizer
        self._embeddings = {
            student: nn.ModuleDict(
                {
                    teacher: Embeddings(widths[student], widths[teacher], size[1])
                    for teacher in self.teachers
                }
            )
            for student in self.students
        }
        self._contrasts = {
            link: (
                Contrast(self.settings, size, surroundings.device),
                Contrast(self.settings, size, surroundings.device),
            )
            for link in self.links
        }
        self._generator = torch.Generator(surroundings.device)
        self._generator.manual_seed(int(torch.randint(1 << 62, ())))
        return self._embeddings

    def student_loss(self, predictions: Predictions, student: str) -> Tensor:
        assert predictions.indices is not None, "the memories are of training images"
        count = self.settings.negatives
        loss = predictions.cross_entropies[student]
        for teacher in self.teachers:
            of_student, of_teacher = self._embeddings[student][teacher](
                predictions.maps[student][LAST], predictions.maps[teacher][LAST].detach()
            )
            negatives = self._negatives.draw(predictions.targets, count, self._generator)
            known_student, known_teacher = self._contrasts[teacher, student]
            contrast = known_teacher.loss(of_student, predictions.indices, negatives)
            contrast = contrast + known_student.loss(of_teacher, predictions.indices, negatives)
            loss = loss + self.settings.weight * contrast
            known_student.remember(of_student, predictions.indices)
            known_teacher.remember(of_teacher, predictions.indices)
        return loss

    def state_dict(self) -> dict[str, Tensor]:
        state = {"generator": self._generator.get_state()}
        for link, sides in self._contrasts.items():
            for side, contrast in zip(("student", "teacher"), sides, strict=True):
                state[_key(link, side, "memory")] = contrast.memory
                state[_key(link, side, "constant")] = contrast.constant
        return state

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        self._generator.set_state(state["generator"].cpu())
        for link, sides in self._contrasts.items():
            for side, contrast in zip(("student", "teacher"), sides, strict=True):
                contrast.memory.copy_(state[_key(link, side, "memory")])
                contrast.constant.copy_(state[_key(link, side, "constant")])


def _key(link: Link, side: str, what: str) -> str:
    return f"{'-'.join(link)}.{side}.{what}"


class Embeddings(nn.Module):
    """Of both networks of a link: a linear layer each over their pooled maps, to L2 norm 1."""

    def __init__(self, student_channels: int, teacher_channels: int, dimensions: int) -> None:
        super().__init__()
        self.of_student = nn.Linear(student_channels, dimensions)
        self.of_teacher = nn.Linear(teacher_channels, dimensions)

    def forward(self, student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
        """Maps (B, C, H, W) of each to embeddings (B, D) of each."""
        pooled = [full_precision(maps).mean(dim=(2, 3)) for maps in (student, teacher)]
        layers = (self.of_student, self.of_teacher)
        student, teacher = (
            F.normalize(layer(each), dim=1) for layer, each in zip(layers, pooled, strict=True)
        )
        return student, teacher


class Contrast:
    """What one network's embeddings of all training images are, as last seen, (N, D) of norm 1.

    `constant`: Z, 0 until the first batch.
    """

    def __init__(self, settings: CRDSettings, size: tuple[int, int], device: torch.device) -> None:
        self.settings = settings
        # drawn on the CPU, to be the same on every device
        self.memory = F.normalize(torch.randn(size), dim=1).to(device)
        self.constant = torch.zeros((), device=device)

    def loss(self, embeddings: Tensor, indices: Tensor, negatives: Tensor) -> Tensor:
        """Of the other network's embeddings (B, D) of images `indices`, against (B, m) negatives.

        The gradient reaches the embeddings alone.
        """
        # the backward pass wants it as it is now, and comes after it is renewed
        memory = self.memory.to(embeddings.dtype, copy=True)
        # all products at once: the rows of so many negatives would take more memory
        products = (embeddings @ memory.T / self.settings.temperature).exp()
        chosen = torch.cat([indices.unsqueeze(1), negatives], dim=1)
        likeness = products.gather(1, chosen)
        first = likeness.detach().mean().to(self.constant.dtype) * len(memory)
        self.constant.copy_(torch.where(self.constant > 0, self.constant, first))
        likeness = likeness / self.constant
        chance = negatives.shape[1] / len(memory)
        same = (likeness[:, 0] / (likeness[:, 0] + chance)).log()
        other = (chance / (likeness[:, 1:] + chance)).log().sum(dim=1)
        return -(same + other).mean()

    @torch.no_grad()
    def remember(self, embeddings: Tensor, indices: Tensor) -> None:
        """Renew the embeddings of these images, and leave them of norm 1."""
        momentum = self.settings.momentum
        old = self.memory.index_select(0, indices)
        new = momentum * old + (1 - momentum) * embeddings.detach().to(old.dtype)
        self.memory.index_copy_(0, indices, F.normalize(new, dim=1))


class Negatives:
    """Draws training images of other classes than an image's own, each as likely as any other.

    `labels`: of all training images, (N,).
    """

    def __init__(self, labels: Tensor, num_classes: int) -> None:
        self._by_class = labels.argsort(stable=True)
        self._counts = torch.bincount(labels, minlength=num_classes)
        self._starts = self._counts.cumsum(0) - self._counts
        if int(self._counts.max()) == len(labels):
            raise SpecError("crd needs training images of two classes (found one)")

    def draw(self, targets: Tensor, count: int, generator: torch.Generator) -> Tensor:
        """Indices (B, count) for images with labels `targets` (B,), with replacement."""
        own, start = (x[targets].unsqueeze(1) for x in (self._counts, self._starts))
        others = len(self._by_class) - own
        shares = torch.rand(
            len(targets), count, device=targets.device, dtype=torch.float64, generator=generator
        )
        place = (shares * others).long().clamp(max=others - 1)
        # in the order of classes its own lie side by side, and are skipped
        return self._by_class[place + own * (place >= start)]
