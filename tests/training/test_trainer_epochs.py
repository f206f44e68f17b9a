"""An epoch of a cohort: its report, its best weights, its schedule, and how it can end."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from switokd.training.evaluation import agreement, score
from switokd.training.timeline import DivergedError
from tests.cohorts import (
    ALL_EXPERT,
    STEPS_PER_EPOCH,
    TRAIN_IMAGES,
    parameters_of,
    same_bits,
    tiny_trainer,
    weights_of,
)


def test_an_epoch_report_is_what_happened() -> None:
    trainer = tiny_trainer(learning_rates={"T1": 0.05, "S1": 0.002})
    first, second = trainer.run_epoch(), trainer.run_epoch()
    assert (first.epoch, second.epoch) == (1, 2)
    assert first.learning_rates == {"T1": 0.05, "S1": 0.002}
    assert second.learning_rates == pytest.approx({"T1": 0.005, "S1": 0.0002})
    assert trainer.done
    assert trainer.step == trainer.total_steps == 2 * STEPS_PER_EPOCH
    sizes = torch.tensor([8.0, 8.0, 8.0, 4.0]).double()
    images, labels = trainer.data.splits["test"]
    logits = {name: net.eval()(images.double()) for name, net in trainer.networks.items()}
    for name, z in logits.items():
        total, cross_entropy = (loss[-4:] for loss in trainer.timeline.losses(name))
        mean = (total @ sizes / TRAIN_IMAGES).item()
        assert second.train_losses[name] == pytest.approx(mean)
        mean = (cross_entropy @ sizes / TRAIN_IMAGES).item()
        assert second.cross_entropies[name] == pytest.approx(mean)
        expected = score(z, labels)
        assert second.scores[name].top1 == expected.top1
        assert second.scores[name].loss == pytest.approx(expected.loss)
    assert second.agreements == {("T1", "S1"): agreement(*logits.values())}
    assert second.images_per_second > 0


def test_the_best_epoch_keeps_its_own_weights() -> None:
    """The first of equally good epochs, with the weights as they were then."""
    trainer = tiny_trainer(epochs=6, learning_rates={"S1": 0.5})
    reports, weights = [], []
    while not trainer.done:
        reports.append(trainer.run_epoch())
        weights.append(weights_of(trainer.networks["S1"]))
    accuracies = [report.scores["S1"].top1 for report in reports]
    best = trainer.best["S1"]
    assert best.top1 == max(accuracies) > min(accuracies)
    assert best.epoch == accuracies.index(max(accuracies)) + 1 < 6
    assert same_bits(best.weights, weights[best.epoch - 1])


def test_the_hold_out_takes_the_test_set_s_place_where_asked() -> None:
    trainer = tiny_trainer()
    trainer.evaluation_split = "holdout"
    report = trainer.run_epoch()
    images, labels = trainer.data.splits["holdout"]
    logits = trainer.networks["S1"].eval()(images.double())
    assert report.scores["S1"].loss == pytest.approx(score(logits, labels).loss)


def test_general_kdcl_looks_at_the_hold_out_once_an_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = tiny_trainer("kdcl", variant="general")
    looks, evaluation = [], trainer.data.evaluation
    monkeypatch.setattr(
        trainer.data,
        "evaluation",
        lambda split: looks.append((split, trainer.step)) or evaluation(split),
    )
    trainer.run_epoch(lambda: trainer.step != 2)
    trainer.run_epoch()
    trainer.run_epoch()
    assert looks == [("holdout", 0), ("test", 4), ("holdout", 4), ("test", 8)]
    assert trainer.method.shares.tolist() != [0.5, 0.5]


@pytest.mark.parametrize("network", ["T1", "S1"])
def test_divergence_ends_the_epoch_with_step_and_network(network: str) -> None:
    # alone of its kind: a weight that is not finite would spread through KL terms
    trainer = tiny_trainer("vanilla")
    trainer.run_epoch(lambda: trainer.step != 2)
    with torch.no_grad():
        trainer.networks[network].head.bias[0] = math.inf
    with pytest.raises(DivergedError, match="diverged at step 3") as caught:
        trainer.run_epoch()
    assert (caught.value.step, caught.value.network) == (3, network)


@pytest.mark.parametrize("network", ["T1", "S1"])
def test_weights_that_diverge_in_an_epoch_s_last_update_are_named(network: str) -> None:
    """The losses of the epoch were finite, but what it leaves cannot be scored."""
    trainer = tiny_trainer("vanilla")

    def diverge(*_: Any) -> None:
        if trainer.step == STEPS_PER_EPOCH:
            torch.nn.init.constant_(trainer.networks[network].head.weight, math.nan)

    trainer.optimizers[network].register_step_post_hook(diverge)
    with pytest.raises(DivergedError, match="diverged at step 4") as caught:
        trainer.run_epoch()
    assert caught.value.network == network


@pytest.mark.filterwarnings("error")
def test_a_teacher_that_pauses_for_an_epoch_keeps_its_schedule() -> None:
    """Its learning rate falls at the milestone all the same, and nobody is warned."""
    trainer = tiny_trainer(**ALL_EXPERT)
    before = parameters_of(trainer, "T1")
    trainer.run_epoch()
    assert same_bits(parameters_of(trainer, "T1"), before)
    assert trainer.run_epoch().learning_rates["T1"] == pytest.approx(0.005)


def test_each_step_is_offered_as_a_stop_but_the_last() -> None:
    trainer, offers = tiny_trainer(), []
    trainer.run_epoch(lambda: offers.append(trainer.step) or True)
    assert offers == [1, 2, 3]


def test_patience_ends_training_where_no_student_gets_better() -> None:
    """Two epochs after the last better one, and not before; without patience all are trained."""
    still = {"S1": 1e-12, "S2": 1e-12, "T1": 0.05}
    trainer = tiny_trainer(students=2, epochs=9, learning_rates=still, patience=2)
    whole = tiny_trainer(students=2, epochs=4, learning_rates=still)
    while not trainer.done:
        trainer.run_epoch()
    # running statistics of batch norm settle in the first epochs, the weights do not move
    last_better = max(trainer.best[name].epoch for name in ("S1", "S2"))
    assert trainer.stopped_early
    assert trainer.epoch == last_better + 2 < 9
    while not whole.done:
        whole.run_epoch()
    assert whole.epoch == 4
    assert not whole.stopped_early
