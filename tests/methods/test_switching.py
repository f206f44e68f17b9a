"""The switch of one link: method.md section 2 by hand, by its bounds and by the reference."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch import Tensor

from switokd.switching import SwitchState, label_distance, switch_state
from tests import reference

# rows of probabilities and what section 2 makes of them, worked out on paper, for label 0:
#   d = 2 (1 - p[0]), G = sum |p_s - p_t|, eps = exp(-d_t / (d_s + d_t)), delta = d_s - eps d_t
BY_HAND = {
    "gap below the threshold": (
        ([0.5, 0.25, 0.25], [0.8, 0.1, 0.1]),
        {"student_distance": 1.0, "teacher_distance": 0.4, "gap": 0.6},
        {"epsilon": math.exp(-2 / 7), "threshold": 1 - 0.4 * math.exp(-2 / 7), "expert": False},
    ),
    "both nearly right": (
        ([0.9, 0.05, 0.05], [0.95, 0.025, 0.025]),
        {"student_distance": 0.2, "teacher_distance": 0.1, "gap": 0.1},
        {"epsilon": math.exp(-1 / 3), "threshold": 0.2 - 0.1 * math.exp(-1 / 3), "expert": False},
    ),
    "gap above the threshold, better teacher": (
        ([0.2, 0.7, 0.1], [0.3, 0.1, 0.6]),
        {"student_distance": 1.6, "teacher_distance": 1.4, "gap": 1.2},
        {"epsilon": math.exp(-7 / 15), "threshold": 1.6 - 1.4 * math.exp(-7 / 15), "expert": True},
    ),
    "gap above the threshold, worse teacher": (
        ([0.3, 0.1, 0.6], [0.2, 0.7, 0.1]),
        {"student_distance": 1.4, "teacher_distance": 1.6, "gap": 1.2},
        {"epsilon": math.exp(-8 / 15), "threshold": 1.4 - 1.6 * math.exp(-8 / 15), "expert": False},
    ),
}


def logits(probabilities: list[list[float]], temperature: float = 1.0) -> Tensor:
    """Logits whose softmax at `temperature` is as given."""
    return temperature * torch.tensor(probabilities, dtype=torch.float64).log()


def labels(count: int) -> Tensor:
    return torch.zeros(count, dtype=torch.int64)


@pytest.mark.parametrize("temperature", [1.0, 2.0, 0.5])
@pytest.mark.parametrize("case", BY_HAND)
def test_a_link_worked_out_on_paper(case: str, temperature: float) -> None:
    (student, teacher), distances, rest = BY_HAND[case]
    state = switch_state(
        logits([student], temperature), logits([teacher], temperature), labels(1), temperature
    )
    for quantity, expected in {**distances, **rest}.items():
        assert getattr(state, quantity).item() == pytest.approx(expected, rel=1e-12), quantity


def test_the_norms_are_averaged_over_the_batch_before_they_are_compared() -> None:
    """Alone, the first image is in expert mode and the second is not; their means decide."""
    (first_s, first_t), *_ = BY_HAND["gap above the threshold, better teacher"]
    (second_s, second_t), *_ = BY_HAND["gap below the threshold"]
    state = switch_state(logits([first_s, second_s]), logits([first_t, second_t]), labels(2))
    assert state.student_distance.item() == pytest.approx((1.6 + 1.0) / 2)
    assert state.teacher_distance.item() == pytest.approx((1.4 + 0.4) / 2)
    assert state.gap.item() == pytest.approx((1.2 + 0.6) / 2)
    epsilon = math.exp(-0.9 / 2.2)
    assert state.epsilon.item() == pytest.approx(epsilon)
    assert state.threshold.item() == pytest.approx(1.3 - epsilon * 0.9)
    assert state.expert.item() is True


def test_the_guard_is_a_setting() -> None:
    (student, teacher), *_ = BY_HAND["gap above the threshold, worse teacher"]
    guarded, unguarded = (
        switch_state(logits([student]), logits([teacher]), labels(1), require_better_teacher=guard)
        for guard in (True, False)
    )
    assert not guarded.expert.item()
    assert unguarded.expert.item()
    assert guarded[:-1] == unguarded[:-1]


def test_a_fixed_threshold_replaces_delta_alone() -> None:
    (student, teacher), distances, rest = BY_HAND["gap below the threshold"]
    below, above = (
        switch_state(logits([student]), logits([teacher]), labels(1), threshold=threshold)
        for threshold in (0.59, 0.61)
    )
    assert below.threshold.item() == pytest.approx(0.59)
    assert below.epsilon.item() == pytest.approx(rest["epsilon"])
    assert below.gap.item() == pytest.approx(distances["gap"])
    assert (below.expert.item(), above.expert.item()) == (True, False)


def test_a_gap_equal_to_the_threshold_is_learning_mode() -> None:
    same = logits([[0.5, 0.25, 0.25]])
    state = switch_state(same, same, labels(1), threshold=0.0, require_better_teacher=False)
    assert (state.gap.item(), state.expert.item()) == (0.0, False)


def test_an_equally_good_teacher_is_not_a_better_one() -> None:
    """Probabilities mirrored over the wrong classes: equal distances, a wide gap."""
    student, teacher = logits([[0.5, 0.375, 0.125]]), logits([[0.5, 0.125, 0.375]])
    state = switch_state(student, teacher, labels(1))
    assert state.gap.item() > state.threshold.item()
    assert state.expert.item() is False


def test_two_perfect_networks_have_no_gap_and_no_nan() -> None:
    perfect = torch.tensor([[2000.0, 0.0, 0.0], [0.0, 2000.0, 0.0]])
    state = switch_state(perfect, perfect, torch.tensor([0, 1]))
    assert [value.item() for value in state] == [0.0, 0.0, 1.0, 0.0, 0.0, False]


def test_the_distance_to_the_labels_is_twice_the_missing_probability() -> None:
    probabilities = torch.tensor([[0.25, 0.75], [1.0, 0.0]])
    assert label_distance(probabilities, torch.tensor([0, 0])).item() == 0.75
    assert label_distance(probabilities, torch.tensor([1, 1])).item() == 1.25


def test_the_state_carries_no_gradient_and_waits_for_nothing() -> None:
    student, teacher = (torch.randn(4, 3, requires_grad=True) for _ in range(2))
    state = switch_state(student, teacher, labels(4))
    assert isinstance(state, SwitchState)
    assert all(value.ndim == 0 and not value.requires_grad for value in state)
    assert state.expert.dtype == torch.bool


@st.composite
def batches(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Student logits, teacher logits (also extreme and equal ones) and labels."""
    images, classes = draw(st.integers(1, 5)), draw(st.integers(2, 7))
    scale = draw(st.sampled_from([1e-3, 1.0, 30.0, 2000.0]))
    values = arrays(np.float64, (images, classes), elements=st.floats(-1, 1))
    student = draw(values) * scale
    teacher = student.copy() if draw(st.booleans()) else draw(values) * scale
    targets = draw(arrays(np.int64, images, elements=st.integers(0, classes - 1)))
    return student, teacher, targets


@settings(max_examples=150, deadline=None)
@given(batch=batches(), temperature=st.sampled_from([0.5, 1.0, 2.0, 10.0]))
def test_the_bounds_of_section_2(
    batch: tuple[np.ndarray, np.ndarray, np.ndarray], temperature: float
) -> None:
    tensors = [torch.from_numpy(array) for array in batch]
    for dtype, slack in ((torch.float64, 1e-12), (torch.float32, 1e-5)):
        state = switch_state(tensors[0].to(dtype), tensors[1].to(dtype), tensors[2], temperature)
        gap, threshold, epsilon, d_s, d_t, expert = (value.item() for value in state)
        assert all(math.isfinite(value) for value in (gap, threshold, epsilon, d_s, d_t))
        assert -slack <= gap <= 2 + slack
        assert 0 <= d_s <= 2
        assert 0 <= d_t <= 2
        assert math.exp(-1) - slack <= epsilon <= 1
        assert d_s - d_t - slack <= threshold <= d_s + slack
        assert gap >= abs(d_s - d_t) - slack, "the triangle inequality"
        assert expert == (gap > threshold and d_t < d_s)


@settings(max_examples=150, deadline=None)
@given(
    batch=batches(),
    temperature=st.sampled_from([0.5, 1.0, 2.0]),
    threshold=st.one_of(st.just("adaptive"), st.sampled_from([0.0, 0.2, 0.6, 0.8, 2.0])),
)
def test_every_quantity_is_the_reference_s(
    batch: tuple[np.ndarray, np.ndarray, np.ndarray], temperature: float, threshold: float | str
) -> None:
    student, teacher, targets = batch
    state = switch_state(*map(torch.from_numpy, batch), temperature, threshold)
    expected = reference.switch(student, teacher, targets, temperature, threshold)
    for quantity in ("gap", "threshold", "epsilon", "student_distance", "teacher_distance"):
        # eps jumps where both distances vanish: only there may rounding decide
        if expected.student_distance + expected.teacher_distance > 1e-9:
            assert getattr(state, quantity).item() == pytest.approx(
                getattr(expected, quantity), abs=1e-9
            ), quantity
