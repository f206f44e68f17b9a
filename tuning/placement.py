"""How many trials run at once, and what each may take of the machine."""

from __future__ import annotations

from collections.abc import Sequence
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


@dataclass(frozen=True)
class Node:
    """What one machine has: CPU cores and GPUs."""

    cpus: int
    gpus: float = 0.0

    def places(self, cpus: int, gpus: float) -> int:
        """How many processes of that share fit on it."""
        on_cpus = self.cpus // cpus
        # a process is on one GPU: what is left of several does not add up to another share
        return min(on_cpus, int(1 / gpus + 1e-9) * int(self.gpus)) if gpus else on_cpus


def allocate(resources: Resources, trials: int, nodes: Sequence[Node]) -> Placement:
    """Share the machines among `trials` trials.

    `auto` takes an equal part of the cores for each trial that runs at the same time, and of a GPU,
    where there are any, what `trials_per_gpu` leaves it. A process is on one node. Raises SpecError
    where not even one trial fits.
    """
    assert resources.trials_per_gpu != "auto", "measured before, by gpu_share.with_measured_share"
    total_cpus, total_gpus = sum(node.cpus for node in nodes), sum(node.gpus for node in nodes)
    whole = 1.0 / resources.trials_per_gpu if total_gpus >= 1 else 0.0
    asked = whole if resources.gpus == "auto" else resources.gpus
    ranks, gpus = resources.ranks, 0.0 if resources.on_cpu else min(asked, 1.0)
    cpus = 1 if resources.cpus == "auto" else resources.cpus
    for key, wanted, there in (
        ("gpus", gpus * ranks, total_gpus),
        ("workers" if resources.workers > 1 else "cpus", cpus * ranks, total_cpus),
    ):
        if wanted > there:
            kind = " CPU cores" if key == "workers" else ""
            # a cluster's head may train nothing
            alone = len(nodes) == 1 and total_cpus > 0
            place = "this machine" if alone else "the cluster"
            joined = "" if total_cpus else ": no node that trains has joined it yet"
            raise SpecError(
                f"resources.{key}: a trial asks for {wanted:g}{kind}; {place} has {there:g}{joined}"
            )
    places = sum(node.places(cpus, gpus) for node in nodes)
    if places < ranks:
        share = f"{cpus} CPU cores" + (f" and {gpus:g} GPUs" if gpus else "")
        sought = f"{ranks} times {share}, each on one node" if ranks > 1 else f"{share} on one node"
        found = "; ".join(f"{node.cpus} and {node.gpus:g}" for node in dict.fromkeys(nodes))
        raise SpecError(
            f"resources.cpus: a trial asks for {sought}; {places} fit (the nodes have, in cores "
            f"and GPUs: {found})"
        )
    slots = min(max(1, trials), places // ranks)
    if resources.max_concurrent is not None:
        slots = min(slots, resources.max_concurrent)
    if resources.cpus == "auto":
        most = min(total_cpus // (slots * ranks), max(node.cpus for node in nodes))
        while sum(node.places(most, gpus) for node in nodes) < slots * ranks:
            most -= 1
        cpus = most
    return Placement(cpus, gpus, slots, ranks)
