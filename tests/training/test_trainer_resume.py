"""Stopping and going on: the rest of a trial is, to the bit, what it would have been."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import pytest
import torch

from switokd.training.trainer import EpochReport, Trainer
from tests.cohorts import STEPS_PER_EPOCH, same_bits, tiny_trainer, weights_of

EPOCHS = 3
TRIALS = {
    "switokd 1T1S": ("switokd", {}),
    "switokd 2T2S": ("switokd", {"teachers": 2, "students": 2, "temperature": 2.0}),
    "kdcl general": ("kdcl", {"variant": "general"}),
    "dml adam": ("dml", {"optimizer": "adam"}),
    "vanilla": ("vanilla", {"teachers": 0}),
}
trials = pytest.mark.parametrize("trial", TRIALS)


def new_trainer(trial: str, seed: int = 0) -> Trainer:
    method, options = TRIALS[trial]
    return tiny_trainer(method, epochs=EPOCHS, dropout=0.3, seed=seed, **options)


def saved_and_read(trainer: Trainer) -> dict[str, Any]:
    """The state as a checkpoint file holds it: tensors and plain values only."""
    buffer = io.BytesIO()
    torch.save(trainer.state_dict(), buffer)
    buffer.seek(0)
    state: dict[str, Any] = torch.load(buffer, weights_only=True)
    return state


def finish(trainer: Trainer) -> list[EpochReport]:
    reports = []
    while not trainer.done:
        report = trainer.run_epoch()
        assert report is not None
        reports.append(report)
    return reports


def undisturbed(trial: str) -> tuple[Trainer, list[EpochReport]]:
    torch.manual_seed(1)
    trainer = new_trainer(trial)
    return trainer, finish(trainer)


def timeless(reports: list[EpochReport]) -> list[EpochReport]:
    return [replace(report, images_per_second=0.0) for report in reports]


def assert_same(first: Trainer, second: Trainer) -> None:
    assert torch.equal(first.timeline.rows(), second.timeline.rows())
    assert (first.epoch, first.step) == (second.epoch, second.step)
    for name, network in first.networks.items():
        assert same_bits(weights_of(network), weights_of(second.networks[name])), name
        mine, theirs = (t.optimizers[name].state_dict() for t in (first, second))
        assert mine["param_groups"] == theirs["param_groups"]
        for position, state in mine["state"].items():
            assert same_bits(state, theirs["state"][position]), name
        assert (first.best[name].epoch, first.best[name].top1) == (
            second.best[name].epoch,
            second.best[name].top1,
        )
        assert same_bits(first.best[name].weights, second.best[name].weights)
    assert same_bits(first.method.state_dict(), second.method.state_dict())


@pytest.mark.parametrize("stop_after", [1, 3, STEPS_PER_EPOCH + 2, 2 * STEPS_PER_EPOCH + 1])
@trials
def test_a_new_trainer_goes_on_in_mid_epoch_to_the_bit(trial: str, stop_after: int) -> None:
    whole, whole_reports = undisturbed(trial)
    torch.manual_seed(1)
    stopped, reports = new_trainer(trial), []
    while stopped.step < stop_after:
        report = stopped.run_epoch(lambda: stopped.step < stop_after)
        reports += [report] if report is not None else []
    assert stopped.step == stop_after
    state = saved_and_read(stopped)
    # whatever the new process did before must not matter: other weights, data, random numbers
    resumed = new_trainer(trial, seed=9)
    torch.manual_seed(77)
    resumed.load_state_dict(state)
    assert resumed.step == stop_after
    reports += finish(resumed)
    assert_same(whole, resumed)
    assert timeless(reports) == timeless(whole_reports)


@trials
def test_between_epochs_likewise(trial: str) -> None:
    whole, _ = undisturbed(trial)
    torch.manual_seed(1)
    stopped = new_trainer(trial)
    stopped.run_epoch()
    resumed = new_trainer(trial, seed=9)
    resumed.load_state_dict(saved_and_read(stopped))
    finish(resumed)
    assert_same(whole, resumed)


@trials
def test_a_stop_in_one_process_is_no_stop(trial: str) -> None:
    """The same trainer left at every step and taken up again."""
    whole, _ = undisturbed(trial)
    torch.manual_seed(1)
    trainer = new_trainer(trial)
    while not trainer.done:
        trainer.run_epoch(lambda: False)
    assert_same(whole, trainer)


def test_saving_at_every_step_disturbs_nothing() -> None:
    whole, _ = undisturbed("switokd 1T1S")
    torch.manual_seed(1)
    trainer, states = new_trainer("switokd 1T1S"), []
    while not trainer.done:
        trainer.run_epoch(lambda: states.append(saved_and_read(trainer)) or True)
    assert_same(whole, trainer)
    assert len(states) == EPOCHS * (STEPS_PER_EPOCH - 1)
    assert [len(state["timeline"]["rows"]) for state in states[:4]] == [1, 2, 3, 5]


def test_training_time_goes_on_from_what_was_saved() -> None:
    stopped = new_trainer("vanilla")
    stopped.run_epoch()
    stopped.run_epoch(lambda: False)
    state = saved_and_read(stopped)
    state["train_seconds"], state["epoch_seconds"] = 100.0, 50.0
    resumed = new_trainer("vanilla")
    resumed.load_state_dict(state)
    resumed.run_epoch()
    assert 150 < resumed.train_seconds < 200


def test_two_runs_from_one_seed_are_one_run() -> None:
    """And not because nothing is random: another seed gives other weights."""
    first, _ = undisturbed("switokd 2T2S")
    second, _ = undisturbed("switokd 2T2S")
    assert_same(first, second)
    torch.manual_seed(2)
    other = new_trainer("switokd 2T2S")
    finish(other)
    assert not same_bits(weights_of(first.networks["S1"]), weights_of(other.networks["S1"]))
