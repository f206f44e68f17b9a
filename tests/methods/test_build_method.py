"""Building a method by name, and what every method's answer holds."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from switokd.methods import METHODS, SETTINGS, build_method
from switokd.methods.base import CohortStep, Method, Surroundings
from switokd.switching import switch_state

TARGETS = torch.tensor([0, 1, 2, 3, 4])
STAGES = ("stage1", "stage2", "stage3")
OFFLINE = sorted(name for name in SETTINGS if SETTINGS[name].trained_teacher)


def random_logits(teachers: int, students: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    names = [f"T{n + 1}" for n in range(teachers)] + [f"S{n + 1}" for n in range(students)]
    return {
        name: torch.randn(5, 6, generator=generator, dtype=torch.float64).requires_grad_()
        for name in names
    }


def some_maps(shape: torch.Size) -> Tensor:
    return torch.arange(5 * shape.numel(), dtype=torch.float64).cos().view(5, *shape)


class Asked:
    """A method with all that it asks for beside logits and labels: maps drawn from `logits`."""

    def __init__(self, name: str, teachers: int, students: int, **settings: Any) -> None:
        names = random_logits(teachers, students)
        stages = dict.fromkeys(names, STAGES)
        if name == "crd":
            settings |= {"negatives": 7, "dimensions": 4}
        self.method = build_method(
            name, teachers=teachers, students=students, network_stages=stages, **settings
        )
        shapes = {
            network: {
                stage: torch.Size([3 + place, 4, 4])
                for place, stage in enumerate(self.method.demand(network).maps)
            }
            for network in names
        }
        labels = torch.arange(20) % 6
        around = Surroundings(shapes, 6, 20, torch.device("cpu"), labels)
        for module in self.method.attach(around).values():
            module.double()
        self.shapes = shapes

    def __call__(self, logits: dict[str, Tensor], targets: Tensor) -> CohortStep:
        maps = {
            # what reaches a map reaches the network's logits
            network: {
                stage: logits[network].mean() + some_maps(shape) for stage, shape in of.items()
            }
            for network, of in self.shapes.items()
        }
        return self.method(logits, targets, maps, torch.arange(5))


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize(("teachers", "students"), [(1, 1), (2, 1), (1, 2), (2, 3)])
def test_every_method_answers_for_every_network_and_link(
    name: str, teachers: int, students: int
) -> None:
    logits = random_logits(teachers, students)
    step = Asked(name, teachers, students)(logits, TARGETS)
    # a teacher that has been trained before only teaches
    learning = [n for n in logits if name not in OFFLINE or n.startswith("S")]
    assert list(step.losses) == learning
    assert step.cross_entropies.keys() == logits.keys()
    assert list(step.links) == [
        (f"T{t}", f"S{s}") for t in range(1, teachers + 1) for s in range(1, students + 1)
    ]
    assert step.paused <= {f"T{t}" for t in range(1, teachers + 1)}
    for network, z in logits.items():
        expected = torch.nn.functional.cross_entropy(z, TARGETS)
        torch.testing.assert_close(step.cross_entropies[network], expected.detach())
        assert not step.cross_entropies[network].requires_grad


@pytest.mark.parametrize("name", METHODS)
def test_the_loss_of_a_network_reaches_no_other(name: str) -> None:
    logits = random_logits(2, 2)
    step = Asked(name, 2, 2, temperature=2.0)(logits, TARGETS)
    for network, loss in step.losses.items():
        gradients = torch.autograd.grad(
            loss, list(logits.values()), retain_graph=True, allow_unused=True
        )
        reached = {n for n, g in zip(logits, gradients, strict=True) if g is not None}
        assert reached == {network}


@pytest.mark.parametrize("name", sorted(set(METHODS) - {"switokd"}))
def test_methods_without_a_switch_measure_the_links_all_the_same(name: str) -> None:
    """Gap and the adaptive threshold as SwitOKD would have them; never expert, never paused."""
    # worked out on paper in test_switching: SwitOKD would be in expert mode
    logits = {
        name: torch.tensor([row] * 5, dtype=torch.float64).log().requires_grad_()
        for name, row in (("T1", [0.3, 0.1, 0.6]), ("S1", [0.2, 0.7, 0.1]))
    }
    targets = torch.zeros(5, dtype=torch.int64)
    expected = switch_state(logits["S1"], logits["T1"], targets)
    assert expected.expert.item()
    step = Asked(name, 1, 1)(logits, targets)
    measured = step.links["T1", "S1"]
    torch.testing.assert_close(measured[:-1], expected[:-1])
    assert measured.expert.dtype == torch.bool
    assert not measured.expert.item()
    assert step.paused == set()


def test_vanilla_is_cross_entropy_alone_whatever_the_temperature() -> None:
    logits = random_logits(1, 2)
    step = build_method("vanilla", teachers=1, students=2)(logits, TARGETS)
    for network, z in logits.items():
        (gradient,) = torch.autograd.grad(step.losses[network], z)
        expected = (z.softmax(1) - torch.nn.functional.one_hot(TARGETS, 6)) / 5
        torch.testing.assert_close(gradient, expected)
        assert step.losses[network].item() == step.cross_entropies[network].item()


def test_one_network_alone_has_no_links() -> None:
    for name in ("vanilla", "dml"):
        step = build_method(name, teachers=0, students=1)(random_logits(0, 1), TARGETS)
        assert (step.links, step.paused) == ({}, set())
        assert step.losses["S1"].item() == step.cross_entropies["S1"].item()


def test_every_registered_method_has_settings_and_builds() -> None:
    assert METHODS.keys() == SETTINGS.keys()
    for name in METHODS:
        method = build_method(name)
        assert isinstance(method, Method)
        assert method.settings == SETTINGS[name]()


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("switokt", {}, "unknown method 'switokt'; did you mean 'switokd'"),
        ("switokd", {"treshold": 0.2}, "did you mean 'threshold'"),
        ("switokd", {"threshold": 2.5}, "switokd.threshold: must be 'adaptive' or a number from 0"),
        ("switokd", {"threshold": True}, "threshold: must be"),
        ("switokd", {"threshold": float("nan")}, "threshold: must be"),
        ("switokd", {"require_better_teacher": "no"}, "require_better_teacher"),
        ("switokd", {"alpha": -1.0}, "switokd.alpha"),
        ("switokd", {"beta": float("inf")}, "switokd.beta"),
        ("kdcl", {"variant": "minimal"}, "kdcl.variant"),
        ("dml", {"threshold": 0.2}, "threshold"),
        ("switokd", {"temperature": 0.0}, "temperature must be above 0.*found 0.0"),
        ("dml", {"temperature": -1.0}, "temperature must be above 0"),
        ("dml", {"temperature": float("nan")}, "temperature must be above 0"),
        ("dml", {"temperature": float("inf")}, "temperature must be"),
        ("switokd", {"students": 0}, "student"),
        ("dml", {"teachers": 0, "students": 0}, "no network"),
        ("dml", {"teachers": -1, "students": 2}, "-1 teachers"),
    ],
)
def test_what_cannot_be_built_is_a_value_error_that_says_why(
    name: str, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        build_method(name, **arguments)


@pytest.mark.parametrize("threshold", [0, 2, 0.6, "adaptive"])
def test_thresholds_that_are_allowed(threshold: float | str) -> None:
    assert build_method("switokd", threshold=threshold).settings.threshold == threshold
