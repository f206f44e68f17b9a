"""The offline losses against versions written from their formulas, in float64 and without torch's
losses; and what CRD's memory and negatives have to be."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from switokd.methods import build_method
from switokd.methods.base import Method, Surroundings
from switokd.methods.crd import CRD, Negatives
from switokd.validation import SpecError

Array = NDArray[np.float64]
BATCH, CLASSES, TRAIN_SIZE = 6, 5, 40
LABELS = torch.arange(TRAIN_SIZE) % CLASSES
INDICES = torch.tensor([3, 17, 8, 30, 21, 39])
TARGETS = LABELS[INDICES]
CHANNELS = {"T1": (6, 10, 14), "S1": (4, 8)}
SIZES = {"T1": (8, 4, 2), "S1": (6, 3)}
STAGES = {name: tuple(f"stage{n + 1}" for n in range(len(c))) for name, c in CHANNELS.items()}


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def random(*size: int, seed: int = 0) -> Tensor:
    return torch.randn(*size, generator=generator(seed), dtype=torch.float64)


@pytest.fixture
def logits() -> dict[str, Tensor]:
    return {
        name: (2 * random(BATCH, CLASSES, seed=seed)).requires_grad_()
        for seed, name in enumerate(("T1", "S1"))
    }


@pytest.fixture
def maps() -> dict[str, dict[str, Tensor]]:
    found: dict[str, dict[str, Tensor]] = {}
    for name, channels in CHANNELS.items():
        found[name] = {
            stage: random(BATCH, count, size, size, seed=10 + place).requires_grad_()
            for place, (stage, count, size) in enumerate(
                zip(STAGES[name], channels, SIZES[name], strict=True)
            )
        }
        found[name]["last"] = found[name][STAGES[name][-1]]
    return found


def built(name: str, maps: Mapping[str, Mapping[str, Tensor]], **settings: Any) -> Method:
    method = build_method(name, network_stages=STAGES, **settings)
    shapes = {
        network: {stage: maps[network][stage].shape[1:] for stage in method.demand(network).maps}
        for network in ("T1", "S1")
    }
    around = Surroundings(shapes, CLASSES, TRAIN_SIZE, torch.device("cpu"), LABELS)
    torch.manual_seed(3)
    method.modules = dict(method.attach(around))  # type: ignore[attr-defined]
    for module in method.modules.values():  # type: ignore[attr-defined]
        module.double()
    return method


def softmax(z: Array) -> Array:
    shifted = np.exp(z - z.max(axis=1, keepdims=True))
    return shifted / shifted.sum(axis=1, keepdims=True)


def cross_entropy(z: Array) -> float:
    return float(-np.log(softmax(z)[np.arange(BATCH), TARGETS.numpy()]).mean())


def arrays(tensors: Mapping[str, Tensor]) -> dict[str, Array]:
    return {name: tensor.detach().numpy() for name, tensor in tensors.items()}


def assert_gradient(loss: Tensor, leaf: Tensor, of: Any) -> None:
    """The gradient at some places of `leaf` against central differences of `of`, a function of an
    array."""
    (gradient,) = torch.autograd.grad(loss, leaf, retain_graph=True)
    flat = leaf.detach().numpy().ravel()
    for place in range(0, flat.size, max(1, flat.size // 7)):
        ends = []
        for step in (1e-6, -1e-6):
            moved = flat.copy()
            moved[place] += step
            ends.append(of(moved.reshape(leaf.shape)))
        slope = (ends[0] - ends[1]) / 2e-6
        assert gradient.view(-1)[place].item() == pytest.approx(slope, rel=1e-5, abs=1e-9)


@pytest.mark.parametrize("name", ["kd", "rco"])
@pytest.mark.parametrize("settings", [{}, {"temperature": 1.5, "alpha": 0.3, "gamma": 2.0}])
def test_kd_is_its_formula(
    name: str,
    settings: dict[str, float],
    logits: dict[str, Tensor],
    maps: dict[str, dict[str, Tensor]],
) -> None:
    weights = {"temperature": 4.0, "alpha": 0.9, "gamma": 0.1} | settings
    temperature, alpha, gamma = (weights[key] for key in ("temperature", "alpha", "gamma"))
    teacher = arrays(logits)["T1"]

    def reference(student: Array) -> float:
        taught, own = softmax(teacher / temperature), softmax(student / temperature)
        divergence = (taught * np.log(taught / own)).sum(axis=1).mean()
        return gamma * cross_entropy(student) + alpha * temperature**2 * divergence

    step = built(name, maps, **settings)(logits, TARGETS)
    assert list(step.losses) == ["S1"]
    assert step.losses["S1"].item() == pytest.approx(reference(arrays(logits)["S1"]), rel=1e-12)
    assert_gradient(step.losses["S1"], logits["S1"], reference)
    # the switch is measured at temperature 1, whatever kd softens by
    gap = np.abs(softmax(arrays(logits)["S1"]) - softmax(teacher)).sum(axis=1).mean()
    assert step.links["T1", "S1"].gap.item() == pytest.approx(gap, rel=1e-12)


def pooled(maps: Array, size: int) -> Array:
    """Adaptive average pooling: cell i of n covers floor(i L / n) to ceil((i + 1) L / n)."""
    length = maps.shape[2]
    edges = [(i * length // size, -(-(i + 1) * length // size)) for i in range(size)]
    return np.stack(
        [
            np.stack([maps[:, :, a:b, c:d].mean(axis=(2, 3)) for c, d in edges], axis=2)
            for a, b in edges
        ],
        axis=2,
    )


def test_fitnet_is_its_formula(
    logits: dict[str, Tensor], maps: dict[str, dict[str, Tensor]]
) -> None:
    method = built("fitnet", maps)
    # of three stages the second, of two the first
    assert [method.demand(name).maps for name in ("T1", "S1")] == [("stage2",), ("stage1",)]
    convolution, norm = method.modules["S1"]["T1"]  # type: ignore[attr-defined]
    assert isinstance(norm, nn.BatchNorm2d)
    kernel = convolution.weight.detach().numpy()[:, :, 0, 0]
    hint = maps["T1"]["stage2"].detach().numpy()
    own = arrays(logits)["S1"]

    def reference(student: Array) -> float:
        # 6 x 6 to the teacher's 4 x 4
        raised = np.einsum("oc,bchw->bohw", kernel, pooled(student, 4))
        mean, variance = raised.mean(axis=(0, 2, 3)), raised.var(axis=(0, 2, 3))
        shape = (1, -1, 1, 1)
        normal = (raised - mean.reshape(shape)) / np.sqrt(variance.reshape(shape) + norm.eps)
        return cross_entropy(own) + 100 * float(((normal - hint) ** 2).mean())

    step = method(logits, TARGETS, maps)
    leaf = maps["S1"]["stage1"]
    assert step.losses["S1"].item() == pytest.approx(reference(leaf.detach().numpy()), rel=1e-10)
    assert_gradient(step.losses["S1"], leaf, reference)


def test_at_is_its_formula(logits: dict[str, Tensor], maps: dict[str, dict[str, Tensor]]) -> None:
    own, teacher = arrays(logits)["S1"], arrays(maps["T1"])

    def attention(maps: Array) -> Array:
        flat = (maps**2).mean(axis=1).reshape(BATCH, -1)
        return flat / np.sqrt((flat**2).sum(axis=1, keepdims=True))

    def reference(last: Array) -> float:
        # the last stages are a pair, and those before them; the teacher's first has no partner
        pairs = [
            (pooled(last, 2), teacher["stage3"]),
            (pooled(maps["S1"]["stage1"].detach().numpy(), 4), teacher["stage2"]),
        ]
        apart = [((attention(a) - attention(b)) ** 2).mean() for a, b in pairs]
        return cross_entropy(own) + 1000 * float(sum(apart))

    step = built("at", maps)(logits, TARGETS, maps)
    leaf = maps["S1"]["stage2"]
    assert step.losses["S1"].item() == pytest.approx(reference(leaf.detach().numpy()), rel=1e-10)
    assert_gradient(step.losses["S1"], leaf, reference)


CRD_SETTINGS = {"negatives": 11, "dimensions": 7, "temperature": 0.4}


@pytest.fixture
def contrast(maps: dict[str, dict[str, Tensor]]) -> CRD:
    method = built("crd", maps, **CRD_SETTINGS)
    assert isinstance(method, CRD)
    for side in method._contrasts["T1", "S1"]:
        side.memory = side.memory.double()
        side.constant = side.constant.double()
    return method


def test_crd_is_its_formula(
    contrast: CRD, logits: dict[str, Tensor], maps: dict[str, dict[str, Tensor]]
) -> None:
    layers = contrast.modules["S1"]["T1"]  # type: ignore[attr-defined]
    known = [side.memory.numpy().copy() for side in contrast._contrasts["T1", "S1"]]
    drawn: list[Array] = []
    draw = contrast._negatives.draw
    contrast._negatives.draw = lambda *a: drawn.append(draw(*a)) or drawn[-1]  # type: ignore
    own = arrays(logits)["S1"]

    def embedded(maps: Array, layer: nn.Linear) -> Array:
        weight, bias = layer.weight.detach().numpy(), layer.bias.detach().numpy()
        raw = maps.mean(axis=(2, 3)) @ weight.T + bias
        return raw / np.sqrt((raw**2).sum(axis=1, keepdims=True))

    def one_side(anchors: Array, memory: Array, constant: float | None) -> tuple[float, float]:
        noise = 11 / TRAIN_SIZE
        rows = [[int(i), *row] for i, row in zip(INDICES, drawn[0].tolist(), strict=True)]
        raw = np.array(
            [[math.exp(float(anchors[b] @ memory[j]) / 0.4) for j in rows[b]] for b in range(BATCH)]
        )
        constant = TRAIN_SIZE * float(raw.mean()) if constant is None else constant
        total = 0.0
        for positive, *negatives in (raw / constant).tolist():
            total -= math.log(positive / (positive + noise))
            total -= sum(math.log(noise / (negative + noise)) for negative in negatives)
        return total / BATCH, constant

    constants: list[float | None] = [None, None]

    def reference(last: Array) -> float:
        student = embedded(last, layers.of_student)
        teacher = embedded(maps["T1"]["last"].detach().numpy(), layers.of_teacher)
        of_student, first = one_side(student, known[1], constants[0])
        of_teacher, second = one_side(teacher, known[0], constants[1])
        constants[:] = [first, second]
        return cross_entropy(own) + 0.8 * (of_student + of_teacher)

    step = contrast(logits, TARGETS, maps, INDICES)
    leaf = maps["S1"]["last"]
    assert step.losses["S1"].item() == pytest.approx(reference(leaf.detach().numpy()), rel=1e-9)
    # the constants are no function of the embeddings
    assert_gradient(step.losses["S1"], leaf, reference)
    sides = contrast._contrasts["T1", "S1"]
    assert [side.constant.item() for side in reversed(sides)] == pytest.approx(constants)
    # the memories are renewed by half, and of norm 1 again
    embeddings = [
        embedded(maps["S1"]["last"].detach().numpy(), layers.of_student),
        embedded(maps["T1"]["last"].detach().numpy(), layers.of_teacher),
    ]
    for side, before, new in zip(sides, known, embeddings, strict=True):
        after = side.memory.numpy()
        mixed = (before[INDICES] + new) / 2
        mixed /= np.sqrt((mixed**2).sum(axis=1, keepdims=True))
        np.testing.assert_allclose(after[INDICES], mixed, rtol=1e-10)
        others = np.setdiff1d(np.arange(TRAIN_SIZE), INDICES.numpy())
        np.testing.assert_array_equal(after[others], before[others])
        np.testing.assert_allclose((after**2).sum(axis=1), 1, rtol=1e-6)


def test_crds_constants_are_estimated_once(
    contrast: CRD, logits: dict[str, Tensor], maps: dict[str, dict[str, Tensor]]
) -> None:
    sides = contrast._contrasts["T1", "S1"]
    assert [side.constant.item() for side in sides] == [0, 0]
    found = []
    for _ in range(3):
        contrast(logits, TARGETS, maps, INDICES)
        found.append([side.constant.item() for side in sides])
    assert found[0] == found[1] == found[2]
    assert all(value > 0 for value in found[0])


def test_negatives_are_of_other_classes_and_each_as_likely() -> None:
    # classes of 1, 2, 3 and 14 images, in no order
    labels = torch.tensor([3, 0, 1, 3, 2, 2, 1, 2, *[3] * 12])
    negatives = Negatives(labels, 5)
    targets = torch.tensor([0, 1, 2, 3])
    drawn = negatives.draw(targets, 40_000, generator())
    assert drawn.shape == (4, 40_000)
    for target, row in zip(targets, drawn, strict=True):
        counts = torch.bincount(row, minlength=len(labels)).double()
        others = labels != target
        assert counts[~others].sum() == 0, "none of the image's own class"
        expected = len(row) / int(others.sum())
        # chi-squared with as many degrees of freedom as images but one
        statistic = float(((counts[others] - expected) ** 2 / expected).sum())
        assert statistic < 3 * int(others.sum())


def test_one_class_alone_has_no_negatives() -> None:
    with pytest.raises(SpecError, match="crd needs training images of two classes"):
        Negatives(torch.zeros(9, dtype=torch.long), 3)


def test_a_network_without_stages_is_asked_for_them() -> None:
    method = build_method("fitnet", network_stages={"T1": ("stage1",)})
    with pytest.raises(SpecError, match=r"S1 has no stages: .* belong under 'stages'"):
        method.demand("S1")
