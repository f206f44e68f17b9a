"""Deep mutual learning: two networks by hand, more by the mean over peers."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from switokd.methods import build_method

TARGETS = torch.tensor([2, 0, 1, 1, 2])


def random_logits(*names: str) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        name: torch.randn(5, 3, generator=generator, dtype=torch.float64).requires_grad_()
        for name in names
    }


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_two_networks_are_two_losses_written_by_hand(temperature: float) -> None:
    logits = random_logits("T1", "S1")
    step = build_method("dml", temperature=temperature)(logits, TARGETS)
    z_t, z_s = logits.values()
    p_t, p_s = (z / temperature for z in (z_t, z_s))
    loss_t = F.cross_entropy(z_t, TARGETS) + temperature**2 / 5 * torch.sum(
        p_s.softmax(1).detach() * (p_s.log_softmax(1).detach() - p_t.log_softmax(1))
    )
    loss_s = F.cross_entropy(z_s, TARGETS) + temperature**2 / 5 * torch.sum(
        p_t.softmax(1).detach() * (p_t.log_softmax(1).detach() - p_s.log_softmax(1))
    )
    for name, z, mine in (("T1", z_t, loss_t), ("S1", z_s, loss_s)):
        torch.testing.assert_close(step.losses[name], mine)
        gradients = (torch.autograd.grad(loss, z)[0] for loss in (step.losses[name], mine))
        torch.testing.assert_close(*gradients)


def test_with_three_networks_each_imitates_the_mean_of_two() -> None:
    logits = random_logits("T1", "S1", "S2")
    step = build_method("dml", students=2)(logits, TARGETS)
    for name, z in logits.items():
        pairs = [
            F.kl_div(z.log_softmax(1), peer.softmax(1), reduction="batchmean")
            for other, peer in logits.items()
            if other != name
        ]
        expected = F.cross_entropy(z, TARGETS) + (pairs[0] + pairs[1]) / 2
        torch.testing.assert_close(step.losses[name], expected)


def test_roles_make_no_difference() -> None:
    """Teacher or student: a network's loss depends on the logits alone."""
    logits = random_logits("T1", "S1", "S2")
    renamed = dict(zip(("T1", "T2", "S1"), logits.values(), strict=True))
    first = build_method("dml", teachers=1, students=2)(logits, TARGETS)
    second = build_method("dml", teachers=2, students=1)(renamed, TARGETS)
    assert [loss.item() for loss in first.losses.values()] == [
        loss.item() for loss in second.losses.values()
    ]
