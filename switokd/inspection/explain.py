"""Grad-CAM: where the networks of a trial look, and how far teacher and student look alike.

Arrays and numbers only; figures are made from them elsewhere. Source: Selvaraju et al., Grad-CAM,
ICCV 2017, as captum implements it.
"""

from __future__ import annotations

import io
import itertools
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from captum.attr import LayerAttribution, LayerGradCam
from numpy.typing import NDArray
from torch import Tensor, nn

from switokd import names
from switokd.inspection.weights import StoredNetwork, load_network, open_test_data
from switokd.models import target_layer

# the share of an image's pixels that count as the peak of its heat map
PEAK_SHARE = 0.2

HeatMaps = NDArray[np.float32]


@dataclass(frozen=True)
class LinkAgreement:
    """How alike teacher and student look at the same images, on average over them.

    peak_overlap: intersection over union, 0 to 1, of the 20 % of pixels that each heat map has
    highest. correlation: Pearson's, -1 to 1, between the maps. Images on which either map is flat
    have neither, and are counted in `flat_images`.
    """

    teacher: str
    student: str
    peak_overlap: float
    correlation: float
    images: int
    flat_images: int


@dataclass(frozen=True)
class Explanation:
    """Some test images, every network's heat maps of them, and every link's agreement over all.

    images: (N, H, W, C) in 0 to 1, as people see them; maps: (N, H, W) by network; classes: the
    true ones, which the maps speak for; predicted: by network what it takes the images for.
    """

    images: HeatMaps
    maps: dict[str, HeatMaps]
    models: dict[str, str]
    classes: list[str]
    agreements: list[LinkAgreement]
    predicted: dict[str, list[str]]

    def numbers(self) -> dict[str, float]:
        """The agreements under one name each, `peak_overlap T1-S1`, where there are any."""
        return {
            f"{quantity} {link.teacher}-{link.student}": value
            for link in self.agreements
            for quantity, value in asdict(link).items()
            if quantity not in ("teacher", "student") and not math.isnan(value)
        }

    def arrays(self) -> bytes:
        """The images and maps as a compressed `.npz`, so that runs can be drawn side by side.

        It holds `images`, `classes`, every network's maps under its name and its predictions under
        `predicted/NAME`; images and maps are uint8, 255 for 1.
        """
        arrays: dict[str, Any] = {name: _as_bytes(maps) for name, maps in self.maps.items()}
        arrays |= {"images": _as_bytes(self.images), "classes": np.array(self.classes)}
        arrays |= {
            f"{names.PREDICTED}{name}": np.array(said) for name, said in self.predicted.items()
        }
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **arrays)
        return buffer.getvalue()


def explain(stored: Mapping[str, StoredNetwork], images: int, device: torch.device) -> Explanation:
    """Explain a trial's networks on the test set they were trained for; show `images` of it.

    The images shown are the first of each class, in the order of the classes, then the second.
    Raises SpecError and DataError as reading weights and data does.
    """
    teachers = [name for name in stored if name.startswith("T")]
    students = [name for name in stored if name.startswith("S")]
    tallies = {link: _Tally() for link in itertools.product(teachers, students)}
    dataset = next(iter(stored.values()))
    shown = _FirstOfEachClass(images)
    with open_test_data(dataset, device) as data:
        networks = {
            name: load_network(entry, data.num_classes).to(device) for name, entry in stored.items()
        }
        layers: dict[str, nn.Module] = {}
        for pictures, labels, _ in data.evaluation("test"):
            assert isinstance(pictures, Tensor), "a test image has one view"
            layers = layers or {
                name: target_layer(stored[name].model, network, stored[name].origin, pictures)
                for name, network in networks.items()
            }
            maps = {
                name: heat_maps(network, layers[name], pictures, labels)
                for name, network in networks.items()
            }
            for (teacher, student), tally in tallies.items():
                tally.add(maps[teacher], maps[student])
            said = {name: predictions(network, pictures) for name, network in networks.items()}
            shown.add(labels.tolist(), pictures.cpu(), maps, said)
        class_names = data.class_names
    chosen = shown.chosen()
    source = dataset.data_source
    return Explanation(
        images=_as_seen(torch.stack([one.image for one in chosen]), source.mean, source.std),
        maps={name: np.stack([one.maps[name] for one in chosen]) for name in stored},
        models={name: entry.label for name, entry in stored.items()},
        classes=[class_names[one.label] for one in chosen],
        predicted={name: [class_names[one.predicted[name]] for one in chosen] for name in stored},
        agreements=[tally.agreement(*link) for link, tally in tallies.items()],
    )


def _as_bytes(shares: HeatMaps) -> NDArray[np.uint8]:
    return np.rint(255 * shares).astype(np.uint8)


class Shown(NamedTuple):
    """A test image: its class, itself, and by network its map and the class predicted."""

    label: int
    image: Tensor
    maps: dict[str, HeatMaps]
    predicted: dict[str, int]


class _FirstOfEachClass:
    """Keeps a few images of each class, no more: a test set may be larger than memory."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._kept: dict[int, list[Shown]] = {}

    def add(
        self,
        labels: list[int],
        images: Tensor,
        maps: Mapping[str, HeatMaps],
        predicted: Mapping[str, list[int]],
    ) -> None:
        for row, label in enumerate(labels):
            of_class = self._kept.setdefault(label, [])
            # all images may be of one class, which then shows them all
            if len(of_class) < self._count:
                own = {name: found[row].copy() for name, found in maps.items()}
                said = {name: classes[row] for name, classes in predicted.items()}
                of_class.append(Shown(label, images[row].clone(), own, said))

    def chosen(self) -> list[Shown]:
        by_rank = itertools.zip_longest(*(kept for _, kept in sorted(self._kept.items())))
        return [one for rank in by_rank for one in rank if one is not None][: self._count]


def _as_seen(images: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> HeatMaps:
    """Normalised images (N, C, H, W) as pictures (N, H, W, C), or (N, H, W) where grey, 0 to 1."""
    scale, shift = (torch.tensor(values).view(1, -1, 1, 1) for values in (std, mean))
    seen = (images * scale + shift).clamp(0, 1).permute(0, 2, 3, 1)
    pictures: HeatMaps = seen.squeeze(-1).numpy().astype(np.float32)
    return pictures


def predictions(network: nn.Module, images: Tensor) -> list[int]:
    """The classes that a network takes images (B, C, H, W) for, in evaluation mode."""
    training = network.training
    network.eval()
    try:
        with torch.no_grad():
            said: list[int] = network(images).argmax(dim=1).tolist()
    finally:
        network.train(training)
    return said


def heat_maps(network: nn.Module, layer: nn.Module, images: Tensor, targets: Tensor) -> HeatMaps:
    """Grad-CAM of a layer of `network` for images (B, C, H, W) and their classes (B,).

    The maps are (B, H, W), 0 to 1 within each image (0 throughout where nothing speaks for the
    class). The network is explained in evaluation mode and left in the mode it was in.
    """
    training = network.training
    network.eval()
    try:
        method = LayerGradCam(network, layer)
        coarse = method.attribute(images, target=targets, relu_attributions=True)
    finally:
        network.train(training)
    fine = LayerAttribution.interpolate(coarse, images.shape[2:], interpolate_mode="bilinear")
    maps = fine.detach().squeeze(1).float()
    low = maps.amin(dim=(1, 2), keepdim=True)
    spread = maps.amax(dim=(1, 2), keepdim=True) - low
    scaled = torch.where(spread > 0, (maps - low) / spread.clamp_min(1e-30), 0.0)
    return scaled.cpu().numpy().astype(np.float32)


class _Tally:
    """The agreement of one link, batch by batch."""

    def __init__(self) -> None:
        self._overlaps: list[NDArray[np.float64]] = []
        self._correlations: list[NDArray[np.float64]] = []
        self._images = 0

    def add(self, teacher: HeatMaps, student: HeatMaps) -> None:
        overlap, correlation = compare_maps(teacher, student)
        self._overlaps.append(overlap)
        self._correlations.append(correlation)
        self._images += len(teacher)

    def agreement(self, teacher: str, student: str) -> LinkAgreement:
        overlaps, correlations = map(np.concatenate, (self._overlaps, self._correlations))
        return LinkAgreement(
            teacher,
            student,
            peak_overlap=float(overlaps.mean()) if len(overlaps) else math.nan,
            correlation=float(correlations.mean()) if len(correlations) else math.nan,
            images=self._images,
            flat_images=self._images - len(overlaps),
        )


def compare_maps(
    teacher: HeatMaps, student: HeatMaps
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Peak overlap and correlation of heat maps (B, H, W), image by image, flat ones left out."""
    first, second = (maps.reshape(len(maps), -1).astype(np.float64) for maps in (teacher, student))
    shaped = (np.ptp(first, axis=1) > 0) & (np.ptp(second, axis=1) > 0)
    first, second = first[shaped], second[shaped]
    peaks = _peaks(first), _peaks(second)
    union = (peaks[0] | peaks[1]).sum(axis=1)
    overlap = (peaks[0] & peaks[1]).sum(axis=1) / union
    centred = [side - side.mean(axis=1, keepdims=True) for side in (first, second)]
    scale = np.sqrt((centred[0] ** 2).sum(axis=1) * (centred[1] ** 2).sum(axis=1))
    return overlap, (centred[0] * centred[1]).sum(axis=1) / scale


def _peaks(maps: NDArray[np.float64]) -> NDArray[np.bool_]:
    """The highest `PEAK_SHARE` of each row's pixels (N, pixels), at least one."""
    count = max(1, round(PEAK_SHARE * maps.shape[1]))
    highest = np.argpartition(maps, -count, axis=1)[:, -count:]
    peaks = np.zeros(maps.shape, dtype=bool)
    np.put_along_axis(peaks, highest, True, axis=1)
    return peaks
