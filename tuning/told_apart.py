"""Trials of one file that are called the same, and what tells them apart."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from switokd.spec.tracked_params import fill_params, params_of
from switokd.spec.trial import TrialSpec


def told_apart(trials: Iterable[TrialSpec]) -> dict[str, dict[str, str]]:
    """By trial id the params, and their values, in which a trial differs from its namesakes."""
    namesakes = defaultdict(list)
    for trial in trials:
        namesakes[trial.label].append(trial)
    found = {}
    for same in namesakes.values():
        if len(same) == 1:
            continue
        params = [fill_params(params_of(trial)) for trial in same]
        keys = {key for each in params for key in each}
        differing = sorted(key for key in keys if len({each.get(key) for each in params}) > 1)
        for trial, each in zip(same, params, strict=True):
            found[trial.trial_id] = {key: each.get(key, "-") for key in differing}
    return found
