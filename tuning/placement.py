"""How many trials run at once, and what each may take of the machine."""

from __future__ import annotations

from dataclasses import dataclass

from switokd.spec.resources import Resources
from switokd.validation import SpecError


@dataclass(frozen=True)
class Placement:
    """The share of one trial, and how many such trials fit at once."""

    cpus: int
    gpus: float
    slots: int


def allocate(resources: Resources, trials: int, total_cpus: int, total_gpus: float) -> Placement:
    """Share the machine among `trials` trials.

    `auto` takes an equal part of the cores for each trial that runs at the same time, and of a GPU,
    where there are any, what `trials_per_gpu` leaves it. Raises SpecError where not even one trial
    fits.
    """
    assert resources.trials_per_gpu != "auto", "measured before, by gpu_share.with_measured_share"
    whole = 1.0 / resources.trials_per_gpu if total_gpus >= 1 else 0.0
    gpus = whole if resources.gpus == "auto" else resources.gpus
    if gpus > total_gpus:
        raise SpecError(
            f"resources.gpus: a trial asks for {gpus:g}; this machine has {total_gpus:g}"
        )
    if resources.cpus != "auto" and resources.cpus > total_cpus:
        raise SpecError(
            f"resources.cpus: a trial asks for {resources.cpus}; this machine has {total_cpus}"
        )
    slots = max(1, trials)
    if gpus:
        # a trial is on one GPU: what is left of several does not add up to another share
        slots = min(slots, int(1 / gpus + 1e-9) * int(total_gpus))
    if resources.max_concurrent is not None:
        slots = min(slots, resources.max_concurrent)
    if resources.cpus == "auto":
        slots = min(slots, total_cpus)
        return Placement(max(1, total_cpus // slots), gpus, slots)
    return Placement(resources.cpus, gpus, min(slots, total_cpus // resources.cpus))
