"""Why a trial is trained although one like it has finished: what differs between the two."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from switokd.spec.tracked_params import MODEL_PARAM, Params, fill_params, params_of
from switokd.spec.trial import TrialSpec

# where more differs, the one is not the other's older form
MOST_DIFFERENCES = 3


def changed_since(
    missing: Iterable[TrialSpec], finished: Mapping[str, Params]
) -> dict[str, tuple[str, tuple[str, ...]]]:
    """For each missing trial's id the nearest finished one, and the params in which they differ.

    `finished`: params by trial id, of trials that the experiment does not have any more. They are
    of the same data, method, seed and networks by name; a trial that has none near it is left out.
    """
    alike: dict[frozenset[tuple[str, str]], dict[str, set[tuple[str, str]]]] = {}
    for trial_id, params in finished.items():
        filled = fill_params(params)
        alike.setdefault(_kind(filled), {})[trial_id] = set(filled.items())
    found = {}
    for trial in missing:
        filled = fill_params(params_of(trial))
        own = set(filled.items())
        others = {
            trial_id: tuple(sorted({key for key, _ in own ^ items}))
            for trial_id, items in alike.get(_kind(filled), {}).items()
        }
        nearest = min(others, key=lambda trial_id: len(others[trial_id]), default=None)
        if nearest is not None and 0 < len(others[nearest]) <= MOST_DIFFERENCES:
            found[trial.trial_id] = (nearest, others[nearest])
    return found


def _kind(params: Params) -> frozenset[tuple[str, str]]:
    names = {key for key in params if MODEL_PARAM.fullmatch(key)} | {"dataset", "method", "seed"}
    return frozenset((key, params.get(key, "")) for key in names)


def why_trained(changed: Mapping[str, tuple[str, tuple[str, ...]]]) -> list[str]:
    """A line for each kind of difference, with the number of trials that have it."""
    kinds = Counter(keys for _, keys in changed.values())
    return [
        f"{count} of them because of another {' and '.join(keys)} than of a finished trial"
        for keys, count in kinds.items()
    ]
