"""What a trial may take of a machine, and where it keeps its checkpoints: no part of what it is."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from switokd.validation import FieldError, Finite, Frozen, Text, Whole


def _auto_or_whole(value: Any) -> Any:
    # a union would answer a wrong value once per member; this answers it once
    if value == "auto" or (type(value) is int and value >= 1):
        return value
    raise ValueError("must be 'auto' or a whole number from 1")


def _gpus(value: Any) -> Any:
    if value == "auto":
        return value
    if type(value) in (int, float) and (0 <= value <= 1 or (value > 1 and value % 1 == 0)):
        return value
    raise ValueError("must be 'auto', a share from 0 to 1 or a whole number of GPUs")


def _full_address(storage: str) -> str:
    # workers have directories of their own
    if "://" not in storage and not Path(storage).is_absolute():
        raise ValueError("must be an address (s3://bucket/path) or an absolute path")
    return storage


class Resources(Frozen):
    """What a trial may take of the machine, and where it keeps its checkpoints.

    `workers` processes on CPUs, or one for each of several `gpus`, train a trial together, with
    `cpus` cores each. Nothing but their number changes what is computed, and that only where each
    takes its batch norms' statistics from its own part of the batch (`batch_norm: local`).
    `trials_per_gpu: auto` measures a trial first; with `gpu_sharing: threads` those of a GPU train
    in one process, which no real sweep on a GPU has shown to work yet. `storage` is the address of
    a folder (`s3://bucket/path`) for the checkpoints, default beside the results.
    """

    cpus: Annotated[int | Literal["auto"], BeforeValidator(_auto_or_whole)] = "auto"
    gpus: Annotated[float | Literal["auto"], BeforeValidator(_gpus)] = "auto"
    workers: Annotated[Whole, Field(ge=1)] = 1
    batch_norm: Literal["local", "synchronized"] = "local"
    trials_per_gpu: Annotated[int | Literal["auto"], BeforeValidator(_auto_or_whole)] = 1
    gpu_sharing: Literal["processes", "threads"] = "processes"
    max_concurrent: Annotated[Whole, Field(ge=1)] | None = None
    checkpoint_seconds: Annotated[Finite, Field(ge=0)] = 30.0
    storage: Annotated[Text, AfterValidator(_full_address)] | None = None

    @model_validator(mode="after")
    def _one_way_to_share_a_gpu(self) -> Resources:
        if self.trials_per_gpu != 1 and self.gpus != "auto":
            raise FieldError(
                (
                    ("trials_per_gpu",),
                    f"says how gpus are shared; gpus must then be 'auto' (found {self.gpus})",
                )
            )
        return self

    @model_validator(mode="after")
    def _one_way_to_divide_a_trial(self) -> Resources:
        if self.workers > 1:
            for key, fitting in (("gpus", ("auto", 0)), ("trials_per_gpu", (1,))):
                found = getattr(self, key)
                if found not in fitting:
                    told = f"must be {fitting[-1]} with workers, which train on CPUs"
                    raise FieldError(((key,), f"{told} (found {found})"))
        return self

    @property
    def ranks(self) -> int:
        """How many processes train one trial together."""
        return self.workers if self.gpus == "auto" else max(self.workers, int(self.gpus))

    @property
    def batch_norm_parts(self) -> int:
        """Into how many parts a batch falls whose batch norms know nothing of each other."""
        return self.ranks if self.batch_norm == "local" else 1

    @property
    def on_cpu(self) -> bool:
        """Whether a trial keeps off the GPU that it may find."""
        return self.workers > 1 or self.gpus == 0
