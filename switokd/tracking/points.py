"""The points that training makes: what an epoch and a window of the timeline come to."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import TYPE_CHECKING

from switokd import names
from switokd.names import metric
from switokd.tracking.outbox import Point

if TYPE_CHECKING:
    from switokd.training.timeline import WindowMean
    from switokd.training.trainer import EpochReport


def epoch_values(report: EpochReport) -> dict[str, float]:
    """The metrics of one epoch, by name."""
    values = {names.IMAGES_PER_SECOND: report.images_per_second}
    for name, scores in report.scores.items():
        values[metric(names.VAL_TOP1, name)] = scores.top1
        values[metric(names.VAL_TOP5, name)] = scores.top5
        values[metric(names.VAL_LOSS, name)] = scores.loss
        values[metric(names.VAL_CALIBRATION_ERROR, name)] = scores.calibration_error
        values[metric(names.TRAIN_LOSS, name)] = report.train_losses[name]
        values[metric(names.CROSS_ENTROPY, name)] = report.cross_entropies[name]
        if name in report.learning_rates:
            values[metric(names.LEARNING_RATE, name)] = report.learning_rates[name]
    for link, share in report.agreements.items():
        values[metric(names.AGREEMENT, *link)] = share
    return values


def points(values: dict[str, float], step: int) -> list[Point]:
    """Points of one step, made now."""
    now = _now_ms()
    return [Point(name, float(value), step, now) for name, value in values.items()]


def window_points(windows: Iterable[WindowMean]) -> list[Point]:
    """The points of a timeline's windows, made now."""
    now = _now_ms()
    return [Point(metric(w.quantity, *w.subject), w.value, w.step, now) for w in windows]


def _now_ms() -> int:
    return int(time.time() * 1000)
