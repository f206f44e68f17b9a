"""More epochs of a trial that there is: which trial that is, and what of it can be carried on.

A trial with more epochs is another trial, with an id and a run of its own. Where the shorter one's
learning rates were those that the longer one has so far, training it from its first step would only
repeat what is there: it starts from the shorter one's last checkpoint instead.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch.optim.lr_scheduler import LRScheduler

from switokd.provenance import library_versions
from switokd.session.state import TrialState
from switokd.spec.tracked_params import EPOCHS, all_but_length, params_of
from switokd.spec.trial import TrialSpec
from switokd.training.build import open_data
from switokd.training.optimizers import build_optimizer, build_schedule
from switokd.training.trainer import Trainer
from switokd.validation import DataError


def shorter_trials(
    trials: Iterable[TrialSpec], finished: Mapping[str, Mapping[str, str]]
) -> dict[str, list[str]]:
    """For each trial's id the finished trials that are it with fewer epochs, the longest first.

    `finished`: params of runs by trial id. Trials that have none are left
    out.
    """
    alike: dict[frozenset[tuple[str, str]], list[tuple[int, str]]] = {}
    for trial_id, params in finished.items():
        if params.get(EPOCHS, "").isdecimal():
            alike.setdefault(all_but_length(params), []).append((int(params[EPOCHS]), trial_id))
    found = {}
    for trial in trials:
        others = sorted(alike.get(all_but_length(params_of(trial)), []), reverse=True)
        shorter = [trial_id for epochs, trial_id in others if epochs < trial.recipe.epochs]
        if shorter:
            found[trial.trial_id] = shorter
    return found


def incompatibility(state: TrialState | None, longer: TrialSpec) -> str | None:
    """Why a trial cannot go on from a shorter one's checkpoint; None where it can."""
    if state is None:
        return "its checkpoint is gone"
    if state.changes:
        return "its settings changed while it was trained"
    if not state.history or state.history[0].step != 1:
        return "its checkpoint lacks the metrics of its first epochs"
    if state.versions != library_versions():
        return "it was trained with other versions of Python or its libraries"
    shorter = TrialSpec.model_validate_json(state.in_force)
    return first_difference(shorter, longer, state.trainer["epoch"])


def changed_data(shorter: TrialState | None, longer: TrialSpec) -> str | None:
    """Why a checkpoint's batches are not those of a trial's data as it is now; None where it fits.

    Raises DataError where there is no data.
    """
    if shorter is None:
        return None
    with open_data(longer) as data:
        try:
            data.load_state_dict(shorter.trainer["data"])
        except DataError as error:
            return f"the data has changed since: {error}"
    return None


def first_difference(shorter: TrialSpec, longer: TrialSpec, epochs: int) -> str | None:
    """The first of so many epochs in which their learning rates differ, in words; or None."""
    for name in longer.networks:
        pairs = zip(learning_rates(shorter, name), learning_rates(longer, name), strict=False)
        for epoch, (one, other) in enumerate(pairs, start=1):
            if one != other and epoch <= epochs:
                return f"epoch {epoch} of {name} had learning rate {one:g} and has {other:g} now"
    return None


def learning_rates(trial: TrialSpec, network: str) -> list[float]:
    """The rate of each of a trial's epochs."""
    weight = torch.nn.Linear(1, 1)
    optimizer = build_optimizer([weight], trial.networks[network])
    schedule = build_schedule(optimizer, trial.recipe)
    rates = []
    for _ in range(trial.recipe.epochs):
        rates.append(float(optimizer.param_groups[0]["lr"]))
        skip_epochs([schedule], 1)
    return rates


def carried_on(trainer: Trainer, state: dict[str, Any], epoch: int) -> dict[str, Any]:
    """Another trainer's `state` for `trainer`, a new one, whose own schedules have it at `epoch`.

    A shorter trial's rate for its next epoch is not the longer one's where a milestone lies there.
    """
    skip_epochs(trainer.schedulers.values(), epoch)
    optimizers = {}
    for name, optimizer in trainer.optimizers.items():
        groups = optimizer.state_dict()["param_groups"]
        optimizers[name] = {"state": state["optimizers"][name]["state"], "param_groups": groups}
    schedules = {name: schedule.state_dict() for name, schedule in trainer.schedulers.items()}
    return state | {"optimizers": optimizers, "schedulers": schedules}


def skip_epochs(schedules: Iterable[LRScheduler], epochs: int) -> None:
    """Put learning rates where they are so many epochs later."""
    with warnings.catch_warnings():
        # no optimizer has stepped in between
        warnings.filterwarnings("ignore", "Detected call of `lr_scheduler.step")
        for schedule in schedules:
            for _ in range(epochs):
                schedule.step()
