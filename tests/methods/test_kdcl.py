"""KDCL's ensembles: the properties of method.md section 4, each against a slow, plain search."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from switokd.methods import build_method
from switokd.methods.kdcl import (
    KDCL,
    error_shares,
    linear_ensemble,
    minlogit_ensemble,
    naive_ensemble,
)
from switokd.methods.losses import Predictions
from tests import reference

CLASSES = 5


def random_cohort(networks: int, images: int = 40, scale: float = 3.0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(networks)
    logits = torch.randn(networks, images, CLASSES, generator=generator, dtype=torch.float64)
    return scale * logits, torch.randint(CLASSES, (images,), generator=generator)


def losses_of(logits: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy per image of logits (B, K), or (N, B, K) by network."""
    by_image = [
        F.cross_entropy(z, targets, reduction="none") for z in logits.view(-1, *logits.shape[-2:])
    ]
    return torch.stack(by_image).squeeze(0)


@pytest.mark.parametrize("networks", [2, 3, 4])
def test_minlogit_has_logit_0_at_the_label_and_no_network_has_a_lower_loss(networks: int) -> None:
    logits, targets = random_cohort(networks)
    ensemble = minlogit_ensemble(logits, targets)
    assert torch.equal(ensemble.gather(1, targets[:, None]), torch.zeros(len(targets), 1).double())
    best = losses_of(logits, targets).amin(dim=0)
    assert (losses_of(ensemble, targets) <= best + 1e-12).all()


def test_minlogit_on_paper() -> None:
    logits = torch.tensor([[[1.0, 3.0, 0.0]], [[2.0, 2.0, 2.0]]])
    assert minlogit_ensemble(logits, torch.tensor([0])).tolist() == [[0.0, 0.0, -1.0]]
    assert minlogit_ensemble(logits, torch.tensor([1])).tolist() == [[-2.0, 0.0, -3.0]]


def test_naive_takes_each_image_from_the_network_that_knows_it_best() -> None:
    logits = torch.tensor([[[9.0, 0.0], [9.0, 0.0]], [[0.0, 1.0], [0.0, 1.0]]])
    ensemble = naive_ensemble(logits, torch.tensor([0, 1]))
    assert ensemble.tolist() == [[9.0, 0.0], [0.0, 1.0]]


@pytest.mark.parametrize("networks", [2, 3])
def test_naive_is_exactly_as_good_as_the_best_network(networks: int) -> None:
    logits, targets = random_cohort(networks)
    best = losses_of(logits, targets).amin(dim=0)
    assert torch.equal(losses_of(naive_ensemble(logits, targets), targets), best)


@pytest.mark.parametrize("scale", [0.1, 3.0, 30.0])
@pytest.mark.parametrize("networks", [2, 3])
def test_linear_is_no_worse_than_any_point_of_a_fine_grid(networks: int, scale: float) -> None:
    """All convex combinations in steps of 1/100 (two networks) or 1/40 (three)."""
    logits, targets = random_cohort(networks, scale=scale)
    cells = 100 if networks == 2 else 40
    found = losses_of(linear_ensemble(logits, targets), targets)
    for parts in itertools.product(range(cells + 1), repeat=networks - 1):
        if sum(parts) <= cells:
            shares = torch.tensor([*parts, cells - sum(parts)]).double() / cells
            grid = losses_of(torch.einsum("n,nbk->bk", shares, logits), targets)
            # shares are found to 1e-7, and a logit is up to a few times `scale`
            assert (found <= grid + 1e-6 * max(1.0, scale)).all(), shares.tolist()


@pytest.mark.parametrize("networks", [2, 3])
def test_linear_is_a_convex_combination(networks: int) -> None:
    logits, targets = random_cohort(networks)
    ensemble = linear_ensemble(logits, targets)
    for image in range(len(targets)):
        basis = torch.cat([logits[:, image].T, torch.ones(1, networks)]).double()
        aim = torch.cat([ensemble[image], torch.ones(1)])[:, None]
        shares = torch.linalg.lstsq(basis, aim).solution
        assert (basis @ shares - aim).abs().max() < 1e-6
        assert shares.min() > -1e-6
        assert shares.max() < 1 + 1e-6


@pytest.mark.parametrize("networks", [2, 3])
def test_general_shares_are_those_of_numpy(networks: int) -> None:
    logits, targets = random_cohort(networks, images=60)
    shares = error_shares(logits, targets).numpy()
    assert shares.sum() == pytest.approx(1)
    np.testing.assert_allclose(
        shares, reference.general_shares(logits.numpy(), targets.numpy()), rtol=1e-5
    )


def test_general_shares_on_paper() -> None:
    """Errors (-0.5, 0.5) and (-0.2, 0.2) that never occur together: weights 1/0.25 to 1/0.04."""
    sure = [100.0, 0.0]
    logits = torch.tensor([[[0.0, 0.0], sure], [sure, [np.log(4.0), 0.0]]], dtype=torch.float64)
    shares = error_shares(logits, torch.tensor([0, 0]))
    assert shares.tolist() == pytest.approx([4 / 29, 25 / 29], rel=1e-6)


def test_general_shares_of_equal_networks_are_equal() -> None:
    logits, targets = random_cohort(1)
    assert error_shares(logits.expand(2, -1, -1), targets).tolist() == pytest.approx([0.5, 0.5])


def test_general_weighs_equally_until_it_has_seen_held_out_data() -> None:
    logits, targets = random_cohort(2)
    method = build_method("kdcl", variant="general")
    assert isinstance(method, KDCL)
    named = dict(zip(("T1", "S1"), logits, strict=True))

    def expected(shares: Tensor) -> float:
        ensemble = torch.einsum("n,nbk->bk", shares, logits)
        imitation = F.kl_div(logits[1].log_softmax(1), ensemble.softmax(1), reduction="batchmean")
        return (F.cross_entropy(logits[1], targets) + imitation).item()

    before = method(named, targets).losses["S1"].item()
    assert before == pytest.approx(expected(torch.tensor([0.5, 0.5]).double()))
    method.refresh(Predictions(named, targets))
    shares = error_shares(logits, targets)
    assert method(named, targets).losses["S1"].item() == pytest.approx(expected(shares))
    assert method.state_dict().keys() == {"shares"}
    again = build_method("kdcl", variant="general")
    again.load_state_dict(method.state_dict())
    assert again(named, targets).losses["S1"].item() == method(named, targets).losses["S1"].item()


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_the_ensemble_is_softened_weighed_and_detached(temperature: float) -> None:
    logits, targets = random_cohort(2)
    named = {name: z.clone().requires_grad_() for name, z in zip(("T1", "S1"), logits, strict=True)}
    step = build_method("kdcl", temperature=temperature, weight=0.4)(named, targets)
    ensemble = minlogit_ensemble(logits, targets)
    for name, z in named.items():
        p, target = (z / temperature).softmax(1), (ensemble / temperature).softmax(1)
        ce = (z.softmax(1) - F.one_hot(targets, CLASSES)) / len(targets)
        expected = ce + 0.4 * temperature * (p - target) / len(targets)
        (gradient,) = torch.autograd.grad(step.losses[name], z)
        torch.testing.assert_close(gradient, expected.detach())


def test_own_views_are_one_per_network() -> None:
    assert build_method("kdcl", students=2, views="own").views == 3
    assert build_method("kdcl", students=2).views == 1
