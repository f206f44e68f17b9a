"""Offline distillation's first stage: which vanilla trial trains a teacher, and what it keeps.

An offline trial names its teacher by the id of the trial that trains it (`trained_by`), so that it
is trained once, however many students share it, and is the same trial as a vanilla one of the file.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from switokd.methods.settings import VanillaSettings
from switokd.spec.recipe import NetworkSpec
from switokd.spec.trial import MethodSpec, TrialSpec

VANILLA = MethodSpec(name="vanilla", settings=VanillaSettings())
# what a network is called that is trained alone
ALONE_NAME = "S1"
# what a trial and those that train its teachers have in common
SHARED = TrialSpec.model_fields.keys() - {"networks", "method", "temperature", "snapshots"}


def taught(network: NetworkSpec, shared: Mapping[str, Any]) -> NetworkSpec:
    """A teacher as it is after its vanilla trial; as it is, where it brings weights to teach with.

    `shared`: the fields SHARED of the trial in which it teaches.
    """
    if network.frozen:
        return network
    by = {"frozen": True, "trained_by": alone(network, shared).trial_id}
    return network.model_copy(update=by)


def alone(network: NetworkSpec, shared: Mapping[str, Any]) -> TrialSpec:
    """The vanilla trial of a network that has not been taught."""
    return TrialSpec(**shared, networks={ALONE_NAME: network}, method=VANILLA)


def teacher_trials(trial: TrialSpec) -> dict[str, TrialSpec]:
    """The trials that train a trial's teachers, by the teacher; none where they are trained."""
    epochs = trial.method.settings.teacher_epochs(trial.recipe.epochs)
    shared = {name: getattr(trial, name) for name in SHARED}
    found = {}
    for name, trial_id in trial.trained_by.items():
        untaught = {"frozen": False, "trained_by": None}
        teacher = alone(trial.networks[name].model_copy(update=untaught), shared)
        assert teacher.trial_id == trial_id, "an id is of what it was made from"
        # what it ends with is kept anyway
        found[name] = teacher.model_copy(update={"snapshots": epochs[:-1]})
    return found


def with_teachers(trials: Iterable[TrialSpec]) -> tuple[TrialSpec, ...]:
    """The trials and those that train their teachers, each once and before those whom it teaches.

    A teacher keeps all the snapshots that any of them asks for.
    """
    trials = tuple(trials)
    asked: dict[str, set[int]] = {}
    for teacher in _teachers(trials):
        asked.setdefault(teacher.trial_id, set()).update(teacher.snapshots)
    found: dict[str, TrialSpec] = {}
    for trial in trials:
        for each in (*teacher_trials(trial).values(), trial):
            kept = tuple(sorted(asked.get(each.trial_id, set()) | set(each.snapshots)))
            found.setdefault(each.trial_id, each.model_copy(update={"snapshots": kept}))
    return tuple(found.values())


def _teachers(trials: Iterable[TrialSpec]) -> Iterator[TrialSpec]:
    for trial in trials:
        yield from teacher_trials(trial).values()
