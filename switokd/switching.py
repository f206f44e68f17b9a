"""The switch: how far apart teacher and student are, and whether the teacher should wait.

Source: method.md section 2; Qian et al., Switchable Online Knowledge Distillation, ECCV 2022.
Everything here is without gradient and stays on the device.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor

Threshold = float | Literal["adaptive"]


class SwitchState(NamedTuple):
    """The switch of one link on one batch; every field is a 0-dimensional tensor.

    gap G = ||p_s - p_t||_1, in [0, 2]; threshold: the one in force, delta or the fixed one;
    epsilon in [1/e, 1]; student_distance d_s and teacher_distance d_t, in [0, 2]; expert: whether
    the link is in expert mode, in which the teacher waits for the student.
    """

    gap: Tensor
    threshold: Tensor
    epsilon: Tensor
    student_distance: Tensor
    teacher_distance: Tensor
    expert: Tensor


def full_precision(logits: Tensor) -> Tensor:
    """Half-precision logits in float32: the gap is a difference of nearly equal numbers."""
    return logits.float() if logits.dtype in (torch.bfloat16, torch.float16) else logits


def label_distance(probabilities: Tensor, targets: Tensor) -> Tensor:
    """|| p - y ||_1 averaged over the batch, for probabilities (B, K) and labels (B,).

    With y one-hot this is 2 (1 - p[y]) exactly, without building y.
    """
    at_label = probabilities.gather(1, targets.unsqueeze(1))
    return 2 * (1 - at_label.mean())


def probability_gap(student: Tensor, teacher: Tensor) -> Tensor:
    """|| p_s - p_t ||_1 averaged over the batch, for probabilities (B, K) of both."""
    return (student - teacher).abs().sum(dim=1).mean()


def switch_from_distances(
    gap: Tensor,
    student_distance: Tensor,
    teacher_distance: Tensor,
    threshold: Threshold = "adaptive",
    require_better_teacher: bool = True,
) -> SwitchState:
    """The switch of a link whose gap and label distances, 0-dimensional, are there already."""
    total = student_distance + teacher_distance
    # both networks certain and right: 0 / 0 stands for two equal distances of 0, epsilon = 1
    ratio = torch.where(total > 0, teacher_distance / total, torch.zeros_like(total))
    epsilon = torch.exp(-ratio)
    if threshold == "adaptive":
        in_force = student_distance - epsilon * teacher_distance
    else:
        in_force = torch.full_like(gap, threshold)
    expert = gap > in_force
    if require_better_teacher:
        expert = expert & (teacher_distance < student_distance)
    return SwitchState(gap, in_force, epsilon, student_distance, teacher_distance, expert)


@torch.no_grad()
def switch_state(
    student_logits: Tensor,
    teacher_logits: Tensor,
    targets: Tensor,
    temperature: float = 1.0,
    threshold: Threshold = "adaptive",
    require_better_teacher: bool = True,
) -> SwitchState:
    """The switch of one link on one batch (method.md section 2).

    `student_logits` and `teacher_logits` are (B, K), `targets` the labels (B,); `threshold` is
    "adaptive" (delta) or a fixed number in the gap's range [0, 2]; `require_better_teacher` is the
    guard of the authors' code: expert mode only where the teacher is nearer to the labels.
    """
    student, teacher = (
        torch.softmax(full_precision(logits) / temperature, dim=1)
        for logits in (student_logits, teacher_logits)
    )
    return switch_from_distances(
        probability_gap(student, teacher),
        label_distance(student, targets),
        label_distance(teacher, targets),
        threshold,
        require_better_teacher,
    )
