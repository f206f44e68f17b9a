"""The timeline: every link's switch and every network's loss, at every step of a trial.

While a step runs, its numbers stay on the device, in one row of a block; a full block comes over
at once. `Timeline` is the part on the host: complete, and saved with every checkpoint.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from torch import Tensor

from switokd import names
from switokd.methods.base import CohortStep, Link
from switokd.switching import SwitchState
from switokd.training.ranks import ALONE, Command, Ranks

BLOCK_STEPS = 256
MAX_WINDOWS = 2000
FIELDS = SwitchState._fields
# as the contract has them; a quantity that the switch gains comes last
CONTRACT_COLUMNS = (
    "gap",
    "threshold",
    "epsilon",
    "teacher_distance",
    "student_distance",
    "expert",
)
PARQUET_COLUMNS = (*CONTRACT_COLUMNS, *(f for f in FIELDS if f not in CONTRACT_COLUMNS))
LOSS, IMAGES = "loss", "images"


def column_names(networks: Sequence[str], links: Sequence[Link]) -> list[str]:
    """What a row of a timeline holds, in order: each link's switch, each network's losses, images.

    A checkpoint has rows by these names. A new quantity of the switch adds a column to each link,
    and rows of older checkpoints are read without it.
    """
    columns = [names.metric(field, *link) for link in links for field in FIELDS]
    for network in networks:
        columns += [names.metric(LOSS, network), names.metric(names.CROSS_ENTROPY, network)]
    return [*columns, IMAGES]


@dataclass(frozen=True)
class WindowMean:
    """The mean of one quantity over a window of steps, placed at the last of them.

    gap, threshold, expert (a share of steps) and of a method without a switch would_be_expert
    (likewise) belong to a link, paused to a teacher.
    """

    quantity: str
    subject: tuple[str, ...]
    step: int
    value: float


class DivergedError(ValueError):
    """A network's loss was not finite."""

    def __init__(self, step: int, network: str, loss: float) -> None:
        super().__init__(f"diverged at step {step}: the loss of {network} is {loss}")
        self.step = step
        self.network = network


class Timeline:
    """Rows of (links x fields, networks x (loss, cross-entropy), images), one per finished step.

    `switched`: whether the links take modes. `ranks`: who trains on a part of each batch; the links
    are those of whole batches as they come, the losses become so as a block is brought over.
    """

    def __init__(
        self,
        networks: Sequence[str],
        links: Sequence[Link],
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        switched: bool = True,
        ranks: Ranks = ALONE,
    ) -> None:
        self._ranks = ranks
        self.networks = tuple(networks)
        self.switched = switched
        self.links = tuple(links)
        self._width = len(self.links) * len(FIELDS) + 2 * len(self.networks)
        self._block = torch.empty(BLOCK_STEPS, self._width, device=device, dtype=dtype)
        self._filled = 0
        self._batch_sizes: list[int] = []
        self._host: list[Tensor] = []
        self._steps_on_host = 0

    def __len__(self) -> int:
        return self._steps_on_host + self._filled

    def record(self, step: CohortStep, images: int) -> None:
        """Note one step on `images` images without waiting, but where a block is full.

        Raises DivergedError, at the latest one block late, where a loss was not finite.
        """
        torch.stack(self._values(step), out=self._block[self._filled])
        self._count(images)

    def row(self, step: CohortStep) -> Tensor:
        """What `record` notes of a step, on the device."""
        return torch.stack(self._values(step))

    def record_row(self, row: Tensor, images: int) -> None:
        """As `record`, of a step whose row is there already."""
        self._block[self._filled].copy_(row)
        self._count(images)

    def _values(self, step: CohortStep) -> list[Tensor]:
        dtype = self._block.dtype
        values = [value.to(dtype) for link in self.links for value in step.links[link]]
        for name in self.networks:
            # a network that only teaches has no loss to minimise
            loss = step.losses.get(name, step.cross_entropies[name])
            values += [loss.detach(), step.cross_entropies[name]]
        return values

    def _count(self, images: int) -> None:
        self._filled += 1
        self._batch_sizes.append(images)
        if self._filled == BLOCK_STEPS:
            self.flush()

    def flush(self) -> None:
        """Bring over what is on the device, with all ranks; raises DivergedError as `record`."""
        if self._filled:
            on_device = self._block[: self._filled].to("cpu", copy=True)
            sizes = torch.tensor(self._batch_sizes, dtype=on_device.dtype).unsqueeze(1)
            links, losses = on_device.tensor_split([len(self.links) * len(FIELDS)], dim=1)
            losses, sizes = self._ranks.average_rows(losses, sizes)
            rows = torch.cat([links, losses, sizes], dim=1)
            self._host.append(rows)
            first_step = self._steps_on_host + 1
            self._steps_on_host += self._filled
            self._filled = 0
            self._batch_sizes.clear()
            self._check_finite(rows, first_step)

    def _check_finite(self, rows: Tensor, first_step: int) -> None:
        losses = rows[:, len(self.links) * len(FIELDS) : self._width : 2]
        bad = (~losses.isfinite()).nonzero()
        if len(bad):
            row = int(bad[0, 0])
            # a diverged network makes its peers' losses infinite too: its own cross-entropy tells
            own = rows[row, len(self.links) * len(FIELDS) + 1 : self._width : 2]
            telling = losses[row] if own.isfinite().all() else own
            network = int((~telling.isfinite()).nonzero()[0])
            raise DivergedError(
                first_step + row, self.networks[network], losses[row, network].item()
            )

    def rows(self) -> Tensor:
        """All finished steps on the host; asked of rank 0, while the others await its command."""
        if self._filled:
            self._ranks.announce(Command.FLUSH)
        self.flush()
        if len(self._host) != 1:
            empty = torch.empty(0, self._width + 1, dtype=self._block.dtype)
            self._host = [torch.cat([empty, *self._host])]
        return self._host[0]

    def state_dict(self) -> dict[str, Any]:
        """All finished steps, for a checkpoint: rows, and what their columns are."""
        return {"columns": column_names(self.networks, self.links), "rows": self.rows()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from the steps of a checkpoint; what it did not record is not a number."""
        kept = {name: column for column, name in enumerate(state["columns"])}
        columns = column_names(self.networks, self.links)
        rows = state["rows"]
        assert rows.shape[1] == len(kept), "a column has one name"
        if list(kept) != columns:
            unknown = rows.new_full((len(rows),), math.nan)
            rows = torch.stack(
                [rows[:, kept[name]] if name in kept else unknown for name in columns], dim=1
            )
        self._host = [rows]
        self._steps_on_host = len(rows)
        self._filled = 0
        self._batch_sizes.clear()

    def switch(self, link: Link) -> dict[str, NDArray[np.floating]]:
        """The fields of one link's switch, each (steps,)."""
        first = self.links.index(link) * len(FIELDS)
        return {
            field: self.rows()[:, first + offset].numpy() for offset, field in enumerate(FIELDS)
        }

    def losses(self, network: str) -> tuple[Tensor, Tensor]:
        """Total loss and cross-entropy of one network, each (steps,)."""
        column = len(self.links) * len(FIELDS) + 2 * self.networks.index(network)
        return self.rows()[:, column], self.rows()[:, column + 1]

    def mean_losses(self, network: str, steps: int) -> tuple[float, float]:
        """Total loss and cross-entropy of one network, over the images of the last `steps`."""
        images = self.rows()[-steps:, -1].double()
        total, cross_entropy = (
            float(loss[-steps:].double() @ images / images.sum()) for loss in self.losses(network)
        )
        return total, cross_entropy

    def images(self, steps: int) -> int:
        """The images of the last `steps`."""
        return int(self.rows()[-steps:, -1].sum())

    def expert_share(self, link: Link) -> float:
        """The share, 0 to 1, of steps so far that the link spent in expert mode."""
        expert = self.switch(link)["expert"]
        return float(expert.mean()) if len(expert) else 0.0

    def paused_share(self, teacher: str) -> float:
        """The share, 0 to 1, of steps so far in which the teacher waited: all its links did."""
        paused = self._paused()[teacher]
        return float(paused.mean()) if len(paused) else 0.0

    def _paused(self) -> dict[str, NDArray[np.floating]]:
        """By teacher, 1 for each step in which every one of its links is in expert mode, else 0."""
        expert: dict[str, list[NDArray[np.floating]]] = {}
        for link in self.links:
            expert.setdefault(link[0], []).append(self.switch(link)["expert"])
        return {name: np.min(links, axis=0) for name, links in expert.items()}

    def would_be_expert(self, link: Link) -> NDArray[np.bool_]:
        """The steps in which the switch with the threshold recorded had been in expert mode.

        method.md section 2; of a method without a switch that threshold is the adaptive one.
        """
        switch = self.switch(link)
        nearer = switch["teacher_distance"] < switch["student_distance"]
        return (switch["gap"] > switch["threshold"]) & nearer

    def write_parquet(self, path: Path, steps_per_epoch: int) -> None:
        """Write every step of every link, ordered by step; nothing is sampled away."""
        steps = np.arange(1, len(self) + 1)
        count = len(self.links)
        columns: dict[str, pa.Array] = {
            "step": pa.array(np.repeat(steps, count), pa.int64()),
            "epoch": pa.array(np.repeat((steps - 1) // steps_per_epoch + 1, count), pa.int32()),
        }
        for side, position in (("teacher", 0), ("student", 1)):
            names = np.tile([link[position] for link in self.links], len(steps))
            columns[side] = pa.array(names, pa.string()).dictionary_encode()
        switches = [self.switch(link) for link in self.links]
        for field in PARQUET_COLUMNS:
            values = np.stack([switch[field] for switch in switches], axis=1).ravel()
            columns[field] = pa.array(values.astype(bool) if field == "expert" else values)
        pq.write_table(pa.table(columns), path, compression="zstd")

    def windows(self, total_steps: int, after: int, ended: bool = False) -> Iterator[WindowMean]:
        """The means of all complete windows that end after step `after`.

        A window is ceil(total_steps / 2000) steps; the trial's last one may be shorter: `ended`
        says that no step will follow.
        """
        size = window_size(total_steps)
        end = len(self) if ended else total_steps
        series = self._series()
        for first in range(after // size * size, len(self), size):
            last = min(first + size, end)
            if after < last <= len(self):
                for (quantity, subject), values in series.items():
                    mean = float(values[first:last].mean())
                    if not math.isnan(mean):
                        yield WindowMean(quantity, subject, last, mean)

    def _series(self) -> dict[tuple[str, tuple[str, ...]], NDArray[np.floating]]:
        series: dict[tuple[str, tuple[str, ...]], NDArray[np.floating]] = {}
        for link in self.links:
            switch = self.switch(link)
            series |= {(quantity, link): switch[quantity] for quantity in names.TIMELINE}
            if not self.switched:
                would_be = self.would_be_expert(link).astype(float)
                series[names.WOULD_BE_EXPERT, link] = would_be
        return series | {(names.PAUSED, (name,)): steps for name, steps in self._paused().items()}


def window_size(total_steps: int) -> int:
    """Steps per window, so that a trial tracks at most 2000 points a series."""
    return max(1, math.ceil(total_steps / MAX_WINDOWS))
