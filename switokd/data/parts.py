"""Which images of a batch are whose, where several processes train on it together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

Sliceable = TypeVar("Sliceable", bound=Sequence[object])


@dataclass(frozen=True)
class Part:
    """Part `index` (from 0) of `count` parts of every batch, of neighbours, as equal as can be.

    `shares_batch_norm`: the statistics of batch norms are those of all parts together.
    """

    index: int = 0
    count: int = 1
    shares_batch_norm: bool = False

    def slice_of(self, total: int) -> slice:
        """The positions of the part in a batch of `total` images."""
        base, more = divmod(total, self.count)
        start = self.index * base + min(self.index, more)
        return slice(start, start + base + (self.index < more))

    def of(self, batch: Sliceable) -> Sliceable:
        """The images of the part."""
        part: Sliceable = batch[self.slice_of(len(batch))]  # type: ignore[assignment]
        return part

    @property
    def fewest(self) -> int:
        """Images that a batch must have to be trained on: each batch norm needs two."""
        return 2 if self.shares_batch_norm else 2 * self.count

    def problem(self, images: int, batch_size: int) -> str | None:
        """Why an epoch of so many images cannot be divided, in words; None where it can."""
        rest = images % batch_size
        if images < min(batch_size, self.fewest):
            return f"{images} training images are too few for {self.count} processes"
        if self.fewest <= rest < self.count:
            # left out, it would make another trial of the one that a single process trains
            return f"an epoch's last batch has {rest} images, too few for {self.count} processes"
        return None


WHOLE = Part()
