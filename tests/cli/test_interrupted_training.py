"""A training that is told to end: its checkpoint, its run, its status, and how it goes on."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from mlflow import MlflowClient

from switokd.training.trainer import Trainer
from tests.cli.conftest import User, stored
from tests.shared_folder import put_empty_store


@pytest.fixture
def _handlers() -> Iterator[None]:
    """What the command sets for its process, put back."""
    handlers = {which: signal.getsignal(which) for which in (signal.SIGINT, signal.SIGTERM)}
    threads = torch.get_num_threads()
    yield
    for which, handler in handlers.items():
        signal.signal(which, handler)
    torch.set_num_threads(threads)


# a machine that is taken away says so by SIGTERM
@pytest.mark.usefixtures("_handlers")
@pytest.mark.parametrize("which", [signal.SIGINT, signal.SIGTERM])
def test_who_is_told_to_end_keeps_a_checkpoint_and_goes_on(
    user: User, monkeypatch: pytest.MonkeyPatch, which: signal.Signals
) -> None:
    put_empty_store(user.folder / "runs" / "mlflow.db")
    train_step, steps = Trainer.train_step, []

    def step(trainer: Trainer, *batch: Any) -> Any:
        steps.append(trainer.step)
        if len(steps) == 2:
            signal.raise_signal(which)
        return train_step(trainer, *batch)

    monkeypatch.setattr(Trainer, "train_step", step)
    assert user.types("train", "tiny.yaml") == 130
    assert user.errors.splitlines()[-2:] == [
        "a checkpoint is kept: the same command goes on from it",
        "switokd: interrupted",
    ]
    assert "Traceback" not in user.errors
    assert steps == [0, 1], "trained on after it was told to end"
    (run_id,), _ = stored(user.folder)
    client = MlflowClient(f"sqlite:///{user.folder}/runs/mlflow.db")
    assert client.get_run(run_id).info.status == "KILLED"

    assert user.types("train", "tiny.yaml") == 0
    assert steps[:3] == [0, 1, 2], "trained again what the checkpoint has"
    assert stored(user.folder)[0] == [run_id]
    assert client.get_run(run_id).info.status == "FINISHED"
