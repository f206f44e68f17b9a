"""How many trials run at once, and what each may take of the machine."""

from __future__ import annotations

from dataclasses import dataclass

from switokd.spec.resources import Resources
from switokd.validation import SpecError


@dataclass(frozen=True)
class Placement:
    """The share of each of a trial's processes, and how many such trials fit at once."""

    cpus: int
    gpus: float
    slots: int
    ranks: int = 1

    @property
    def in_words(self) -> str:
        share = f"{self.cpus} CPU cores and {self.gpus:g} GPUs each"
        processes = "" if self.ranks == 1 else f"in {self.ranks} processes with "
        return f"{self.slots} at once, {processes}{share}"


def allocate(resources: Resources, trials: int, total_cpus: int, total_gpus: float) -> Placement:
    """Share the machine among `trials` trials.

    `auto` takes an equal part of the cores for each trial that runs at the same time, and of a GPU,
    where there are any, what `trials_per_gpu` leaves it. Raises SpecError where not even one trial
    fits.
    """
    assert resources.trials_per_gpu != "auto", "measured before, by gpu_share.with_measured_share"
    whole = 1.0 / resources.trials_per_gpu if total_gpus >= 1 else 0.0
    asked = whole if resources.gpus == "auto" else resources.gpus
    ranks, gpus = resources.ranks, 0.0 if resources.on_cpu else min(asked, 1.0)
    cpus = 1 if resources.cpus == "auto" else resources.cpus
    for key, wanted, there in (
        ("gpus", gpus * ranks, total_gpus),
        ("workers" if ranks > 1 else "cpus", cpus * ranks, total_cpus),
    ):
        if wanted > there:
            kind = " CPU cores" if key == "workers" else ""
            raise SpecError(
                f"resources.{key}: a trial asks for {wanted:g}{kind}; this machine has {there:g}"
            )
    slots = max(1, trials)
    if gpus:
        # a process is on one GPU: what is left of several does not add up to another share
        slots = min(slots, int(1 / gpus + 1e-9) * int(total_gpus) // ranks)
    if resources.max_concurrent is not None:
        slots = min(slots, resources.max_concurrent)
    slots = min(slots, total_cpus // (cpus * ranks))
    if resources.cpus == "auto":
        cpus = total_cpus // (slots * ranks)
    return Placement(cpus, gpus, slots, ranks)
