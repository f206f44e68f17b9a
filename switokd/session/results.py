"""What a finished trial leaves: its summary metrics, and its files."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor, nn

from switokd import names
from switokd.files.storage import write_durably
from switokd.names import metric
from switokd.session.teacher_weights import snapshot, weights_file
from switokd.session.timeline_picture import timeline_picture
from switokd.spec.trial import TrialSpec
from switokd.tracking.outbox import Point
from switokd.training.network_cost import cost_metrics
from switokd.training.trainer import Trainer

log = logging.getLogger(__name__)


def summarise(trial: TrialSpec, trainer: Trainer, last_top1: dict[str, float]) -> dict[str, float]:
    """The metrics of a trial as a whole, by name; `last_top1` in percent, by network."""
    summary = {names.TRAIN_SECONDS: trainer.train_seconds}
    for name in trainer.networks:
        summary[metric(names.BEST_VAL_TOP1, name)] = trainer.best[name].top1
        summary[metric(names.LAST_VAL_TOP1, name)] = last_top1[name]
        summary |= cost_metrics(name, trainer.networks[name], trainer.data.image_size)
    for link in trainer.timeline.links:
        summary[metric(names.EXPERT_SHARE, *link)] = trainer.timeline.expert_share(link)
        if not trainer.timeline.switched:
            would_be = float(trainer.timeline.would_be_expert(link).mean())
            summary[metric(names.WOULD_BE_EXPERT_SHARE, *link)] = would_be
    for teacher in dict.fromkeys(teacher for teacher, _ in trainer.timeline.links):
        summary[metric(names.PAUSED_SHARE, teacher)] = trainer.timeline.paused_share(teacher)
    if trial.recipe.holdout:
        summary |= _test_scores(trainer)
    return summary


def _test_scores(trainer: Trainer) -> dict[str, float]:
    """The test set, looked at once: with the last weights and those of the best epoch."""
    values: dict[str, float] = {}
    last = {name: _copies(network) for name, network in trainer.networks.items()}
    best = {name: trainer.best[name].weights for name in trainer.networks}
    for quantity, weights in ((names.TEST_TOP1_BEST, best), (names.TEST_TOP1, last)):
        for name, network in trainer.networks.items():
            network.load_state_dict(weights[name])
        scores, _ = trainer.evaluate("test")
        values |= {metric(quantity, name): s.top1 for name, s in scores.items()}
    return values


def write_files(
    trial: TrialSpec, trainer: Trainer, summary: dict[str, float], folder: Path
) -> list[tuple[Path, str | None]]:
    """Write the artifacts into `folder`: each file, and its folder in the run. Raises OSError."""
    spec_file = folder / names.SPEC_FILE
    spec = yaml.safe_dump(trial.model_dump(mode="json"), sort_keys=False)
    write_durably(spec_file, spec.encode())
    files: list[tuple[Path, str | None]] = [(spec_file, None)]
    files += write_timeline(trainer, folder)
    weights_folder = folder / names.WEIGHTS_FOLDER
    weights_folder.mkdir(exist_ok=True)
    for name, network in trainer.networks.items():
        best = trainer.best[name]
        written: list[tuple[str, int, float | None, Mapping[str, Tensor]]] = [
            ("last", trainer.epoch, summary[metric(names.LAST_VAL_TOP1, name)], _copies(network)),
            ("best", best.epoch, best.top1, best.weights),
        ]
        for epoch, kept in trainer.snapshots.items():
            written.append((snapshot(epoch), epoch, None, kept[name]))
        for which, epoch, top1, weights in written:
            path = weights_folder / weights_file(name, which)
            about = _about(trial, trainer, name) | {"best_acc": top1, "epoch": epoch}
            # through memory: torch reports a full disk as an error of its own making
            content = io.BytesIO()
            torch.save(about | {"state_dict": weights}, content)
            path.write_bytes(content.getbuffer())
            files.append((path, names.WEIGHTS_FOLDER))
    return files


def write_timeline(trainer: Trainer, folder: Path) -> list[tuple[Path, str | None]]:
    """Write every step of a trial that has links. Raises OSError."""
    if not trainer.timeline.links:
        return []
    timeline = folder / names.TIMELINE_FILE
    trainer.timeline.write_parquet(timeline, trainer.data.steps_per_epoch)
    return [(timeline, None)]


def write_picture(
    trial: TrialSpec, trainer: Trainer, history: Iterable[Point], folder: Path
) -> list[tuple[Path, str | None]]:
    """Draw the timeline of a trial that has links, from its steps and the points of its epochs.

    Raises OSError.
    """
    if not trainer.timeline.links:
        return []
    steps = trainer.data.steps_per_epoch
    try:
        picture = timeline_picture(trainer.timeline, history, trial.label, steps)
    except Exception as error:
        # hours of training have ended well
        log.warning("trial %s: its timeline cannot be drawn: %s", trial.trial_id, error)
        return []
    if picture is None:
        return []
    path = folder / names.TIMELINE_PICTURE
    path.write_bytes(picture)
    return [(path, None)]


def _about(trial: TrialSpec, trainer: Trainer, name: str) -> dict[str, Any]:
    """What lets `switokd evaluate` understand a weights file alone; the keys are the authors'."""
    spec = trial.networks[name]
    return {
        "network": name,
        "model": spec.model,
        "name": spec.name,
        "origin": asdict(spec.origin),
        "num_classes": trainer.data.num_classes,
        "dataset": trial.dataset,
        "dataset_path": trial.dataset_path,
        "data_origin": asdict(trial.data_origin),
        "stand_in": trial.stand_in,
        "image_size": trial.recipe.image_size,
        "precision": trial.recipe.precision,
    }


def _copies(network: nn.Module) -> dict[str, Tensor]:
    return {key: value.to("cpu", copy=True) for key, value in network.state_dict().items()}
