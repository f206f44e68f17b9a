"""SwitOKD's losses and pauses: method.md section 3 on cohorts whose modes are known beforehand."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from switokd.methods import build_method
from switokd.methods.base import CohortStep

LABEL = torch.tensor([0])
# (gap, better teacher) of a link decide its mode at a fixed threshold; label 0
PROBABILITIES = {
    "sure": [0.7, 0.2, 0.1],
    "fair": [0.5, 0.3, 0.2],
    "poor": [0.2, 0.2, 0.6],
}


def cohort(**networks: str) -> dict[str, Tensor]:
    return {
        name: torch.tensor([PROBABILITIES[quality]], dtype=torch.float64).log().requires_grad_()
        for name, quality in networks.items()
    }


def step_of(logits: dict[str, Tensor], temperature: float = 1.0, **settings: object) -> CohortStep:
    count = {side: sum(name.startswith(side) for name in logits) for side in "TS"}
    method = build_method(
        "switokd", teachers=count["T"], students=count["S"], temperature=temperature, **settings
    )
    return method(logits, LABEL)


def ce(logits: Tensor) -> float:
    return -logits.log_softmax(1)[0, 0].item()


def kl(target: Tensor, prediction: Tensor, temperature: float = 1.0) -> float:
    p, q = (z.detach() / temperature for z in (target, prediction))
    return (p.softmax(1) * (p.log_softmax(1) - q.log_softmax(1))).sum().item()


def kl_sum(targets: Iterable[Tensor], prediction: Tensor) -> float:
    return sum(kl(target, prediction) for target in targets)


# at the fixed threshold 0.5: sure - poor 1.0 apart, fair - poor 0.8, sure - fair 0.4
THRESHOLD = 0.5


def test_learning_mode_teaches_both() -> None:
    logits = cohort(T1="sure", S1="fair")
    step = step_of(logits, threshold=THRESHOLD)
    assert not step.links["T1", "S1"].expert
    assert step.paused == set()
    t, s = logits.values()
    assert step.losses["S1"].item() == pytest.approx(ce(s) + kl(t, s))
    assert step.losses["T1"].item() == pytest.approx(ce(t) + kl(s, t))
    assert kl(t, s) != pytest.approx(kl(s, t)), "else the order of arguments would not show"


def test_expert_mode_pauses_the_teacher_and_leaves_the_student_s_loss() -> None:
    logits = cohort(T1="sure", S1="poor")
    step = step_of(logits, threshold=THRESHOLD)
    assert step.links["T1", "S1"].expert
    assert step.paused == {"T1"}
    t, s = logits.values()
    assert step.losses["S1"].item() == pytest.approx(ce(s) + kl(t, s))


def test_a_worse_teacher_goes_on_learning_unless_the_guard_is_off() -> None:
    logits = cohort(T1="poor", S1="sure")
    assert step_of(logits, threshold=THRESHOLD).paused == set()
    assert step_of(logits, threshold=THRESHOLD, require_better_teacher=False).paused == {"T1"}


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_alpha_weighs_the_student_s_imitation_and_beta_the_teacher_s(temperature: float) -> None:
    logits = cohort(T1="sure", S1="fair")
    step = step_of(logits, temperature, threshold=2.0, alpha=0.7, beta=0.3)
    t, s = logits.values()
    scale = temperature**2
    student = ce(s) + 0.7 * scale * kl(t, s, temperature)
    teacher = ce(t) + 0.3 * scale * kl(s, t, temperature)
    assert step.losses["S1"].item() == pytest.approx(student)
    assert step.losses["T1"].item() == pytest.approx(teacher)


def test_a_teacher_learns_from_its_learning_students_alone() -> None:
    logits = cohort(T1="sure", S1="fair", S2="poor")
    step = step_of(logits, threshold=THRESHOLD)
    assert [bool(state.expert) for state in step.links.values()] == [False, True]
    assert step.paused == set()
    t, fair, poor = logits.values()
    assert step.losses["T1"].item() == pytest.approx(ce(t) + kl(fair, t))
    assert step.losses["S1"].item() == pytest.approx(ce(fair) + kl_sum([t, poor], fair))
    assert step.losses["S2"].item() == pytest.approx(ce(poor) + kl_sum([t, fair], poor))


def test_a_teacher_whose_students_all_lag_is_paused() -> None:
    step = step_of(cohort(T1="sure", S1="poor", S2="poor"), threshold=THRESHOLD)
    assert step.paused == {"T1"}


def test_teachers_pause_one_by_one() -> None:
    logits = cohort(T1="sure", T2="poor", S1="poor")
    step = step_of(logits, threshold=THRESHOLD)
    assert step.paused == {"T1"}
    sure, poor, s = logits.values()
    assert step.losses["T2"].item() == pytest.approx(ce(poor) + kl(s, poor) + kl(sure, poor))
    assert step.losses["S1"].item() == pytest.approx(ce(s) + kl_sum([sure, poor], s))


def test_a_teacher_imitates_its_peer_teachers_while_it_trains() -> None:
    logits = cohort(T1="sure", T2="fair", S1="fair", S2="poor")
    step = step_of(logits, threshold=THRESHOLD, beta=0.5)
    assert {link: bool(state.expert) for link, state in step.links.items()} == {
        ("T1", "S1"): False,
        ("T1", "S2"): True,
        ("T2", "S1"): False,
        ("T2", "S2"): True,
    }
    sure, fair, s1, _ = logits.values()
    assert step.losses["T1"].item() == pytest.approx(ce(sure) + 0.5 * kl_sum([s1, fair], sure))
    assert step.losses["T2"].item() == pytest.approx(ce(fair) + 0.5 * kl_sum([s1, sure], fair))


def test_the_student_s_gradient_is_the_same_to_the_bit_in_both_modes() -> None:
    gradients = []
    for threshold in (0.0, 2.0):
        logits = cohort(T1="sure", T2="fair", S1="poor", S2="fair")
        step = step_of(logits, 2.0, threshold=threshold, require_better_teacher=False)
        step.losses["S1"].backward()
        gradients.append(logits["S1"].grad)
        assert bool(step.links["T1", "S1"].expert) is (threshold == 0.0)
    assert torch.equal(*gradients)


def test_an_expert_link_leaves_nothing_in_the_teacher_s_gradient() -> None:
    """T1 has one learning and one expert link: its gradient is as if the lagging one had no say."""
    logits = cohort(T1="sure", S1="fair", S2="poor")
    step_of(logits, threshold=THRESHOLD).losses["T1"].backward()
    t, fair = (logits[name].detach() for name in ("T1", "S1"))
    one_hot = F.one_hot(LABEL, 3)
    expected = (t.softmax(1) - one_hot) + (t.softmax(1) - fair.softmax(1))
    torch.testing.assert_close(logits["T1"].grad, expected)
