"""Which images of a batch are whose, where several processes train on it together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

Sliceable = TypeVar("Sliceable", bound=Sequence[object])


@dataclass(frozen=True)
class Part:
    """Part `index` (from 0) of `count` parts of every batch, of neighbours, as equal as can be."""

    index: int = 0
    count: int = 1

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
        """Images that a batch must have to train: batch norm needs two of every part."""
        return 2 * self.count


WHOLE = Part()
