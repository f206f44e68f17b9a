"""Every metric's name, and the points that training makes of it."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import TYPE_CHECKING

from switokd.tracking.outbox import Point

if TYPE_CHECKING:
    from switokd.training.timeline import WindowMean
    from switokd.training.trainer import EpochReport

# the metrics that a trial has at its end alone
SUMMARY_METRICS = {
    *("train_seconds", "best_val_top1", "last_val_top1", "expert_share"),
    *("test_top1", "test_top1_best", "peak_memory_mib"),
}


def metric(quantity: str, *subject: str) -> str:
    """`val_top1/S1`, `gap/T1-S1`: a quantity of a network or of a link."""
    return f"{quantity}/{'-'.join(subject)}" if subject else quantity


def epoch_values(report: EpochReport) -> dict[str, float]:
    """The metrics of one epoch, by name."""
    values = {"images_per_second": report.images_per_second}
    for name, scores in report.scores.items():
        values[metric("val_top1", name)] = scores.top1
        values[metric("val_top5", name)] = scores.top5
        values[metric("val_loss", name)] = scores.loss
        values[metric("val_calibration_error", name)] = scores.calibration_error
        values[metric("train_loss", name)] = report.train_losses[name]
        values[metric("ce", name)] = report.cross_entropies[name]
        values[metric("lr", name)] = report.learning_rates[name]
    for link, share in report.agreements.items():
        values[metric("agreement", *link)] = share
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
