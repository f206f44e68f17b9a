"""The terms that losses are made of: hand-computed numbers, gradients, scale."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from switokd.methods.losses import Predictions, kl_divergence
from switokd.switching import switch_state

TARGETS = torch.tensor([0, 2, 1, 1])


def random_logits(*names: str, gradient: bool = True) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    shape = (len(TARGETS), 3)
    return {
        name: torch.randn(shape, generator=generator, dtype=torch.float64, requires_grad=gradient)
        for name in names
    }


def test_kl_divergence_on_paper() -> None:
    """KL((1/2, 1/2) || (1/4, 3/4)) = ln 2 / 2 + ln(2/3) / 2; the other way round it differs."""
    half, quarter = torch.tensor([[0.5, 0.5]]).log(), torch.tensor([[0.25, 0.75]]).log()
    assert kl_divergence(half, quarter).item() == pytest.approx(math.log(4 / 3) / 2)
    assert kl_divergence(quarter, half).item() == pytest.approx(
        math.log(1 / 2) / 4 + 3 * math.log(3 / 2) / 4
    )


def test_kl_divergence_is_the_mean_over_images_of_sums_over_classes() -> None:
    one = torch.tensor([[0.5, 0.5]]).log(), torch.tensor([[0.25, 0.75]]).log()
    batch = [torch.cat([side, one[0]]) for side in one]  # the second image adds nothing
    assert kl_divergence(*batch).item() == pytest.approx(math.log(4 / 3) / 4)


def test_the_target_of_the_kl_divergence_is_detached() -> None:
    target, prediction = random_logits("target", "prediction").values()
    kl_divergence(target.log_softmax(1), prediction.log_softmax(1)).backward()
    assert target.grad is None
    assert prediction.grad.abs().max() > 0


def test_imitation_runs_from_the_named_target_to_the_named_network() -> None:
    logits = {
        "T1": torch.tensor([[0.5, 0.5]]).log().requires_grad_(),
        "S1": torch.tensor([[0.25, 0.75]]).log().requires_grad_(),
    }
    loss = Predictions(logits, torch.tensor([0])).imitation("T1", "S1")
    assert loss.item() == pytest.approx(math.log(4 / 3) / 2)
    loss.backward()
    assert logits["T1"].grad is None
    assert logits["S1"].grad.tolist() == [pytest.approx([-0.25, 0.25])]


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0, 10.0])
def test_the_gradient_of_imitation_is_tau_times_the_difference(temperature: float) -> None:
    """d/dz_s tau^2 KL(p_t || p_s) = tau (p_s - p_t) / B."""
    logits = random_logits("T1", "S1")
    Predictions(logits, TARGETS, temperature).imitation("T1", "S1").backward()
    p_t, p_s = ((logits[name].detach() / temperature).softmax(1) for name in ("T1", "S1"))
    expected = temperature * (p_s - p_t) / len(TARGETS)
    torch.testing.assert_close(logits["S1"].grad, expected, rtol=1e-10, atol=1e-12)


def test_tau_squared_keeps_the_gradient_s_scale() -> None:
    """At high temperature it tends to the centred difference of logits / (K B), not to 0."""
    logits = random_logits("T1", "S1")
    Predictions(logits, TARGETS, 1e4).imitation("T1", "S1").backward()
    difference = (logits["S1"] - logits["T1"]).detach()
    limit = (difference - difference.mean(1, keepdim=True)) / difference.numel()
    torch.testing.assert_close(logits["S1"].grad, limit, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_cross_entropy_is_at_temperature_1(temperature: float) -> None:
    predictions = Predictions(random_logits("S1"), TARGETS, temperature)
    log_probabilities = predictions.logits["S1"].log_softmax(1)
    expected = -sum(log_probabilities[row, label] for row, label in enumerate(TARGETS)) / 4
    torch.testing.assert_close(predictions.cross_entropies["S1"], expected)


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_a_link_is_what_switch_state_says(temperature: float) -> None:
    logits = random_logits("T1", "S1")
    for settings in ((), (0.4,), ("adaptive", False)):
        mine = Predictions(logits, TARGETS, temperature).link("T1", "S1", *settings)
        theirs = switch_state(logits["S1"], logits["T1"], TARGETS, temperature, *settings)
        torch.testing.assert_close(mine._asdict(), theirs._asdict(), rtol=1e-12, atol=1e-12)
        assert not any(value.requires_grad for value in mine)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_logits_are_measured_in_float32(dtype: torch.dtype) -> None:
    """The differences are small: in bfloat16 they would have three digits."""
    half = {name: z.detach().to(dtype) for name, z in random_logits("T1", "S1").items()}
    single = {name: z.float() for name, z in half.items()}
    mine, theirs = (Predictions(logits, TARGETS) for logits in (half, single))
    assert mine.link("T1", "S1") == theirs.link("T1", "S1")
    assert torch.equal(mine.imitation("T1", "S1"), theirs.imitation("T1", "S1"))
    assert mine.cross_entropies["S1"].dtype == torch.float32


def test_float64_stays_float64() -> None:
    predictions = Predictions(random_logits("T1", "S1"), TARGETS, 2.0)
    values = [*predictions.link("T1", "S1")[:-1], predictions.imitation("T1", "S1")]
    assert {value.dtype for value in values} == {torch.float64}
