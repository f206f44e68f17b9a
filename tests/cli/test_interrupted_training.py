"""A training that is told to end: its checkpoint, its run, its status, and how it goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from mlflow import MlflowClient

from switokd.training.trainer import Trainer
from tests.cli.conftest import User, stored
from tests.processes import next_line
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


@pytest.mark.usefixtures("_handlers")
def test_sigterm_ends_it_as_orderly_as_an_interrupt(
    user: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine that is taken away says so by SIGTERM."""
    put_empty_store(user.folder / "runs" / "mlflow.db")
    train_step, steps = Trainer.train_step, []

    def step(trainer: Trainer, *batch: Any) -> Any:
        steps.append(trainer.step)
        if len(steps) == 2:
            signal.raise_signal(signal.SIGTERM)
        return train_step(trainer, *batch)

    monkeypatch.setattr(Trainer, "train_step", step)
    assert user.types("train", "tiny.yaml") == 130
    assert user.errors.splitlines()[-2:] == [
        "a checkpoint is kept: the same command goes on from it",
        "switokd: interrupted",
    ]
    assert steps == [0, 1], "trained on after it was told to end"
    (run_id,), _ = stored(user.folder)
    client = MlflowClient(f"sqlite:///{user.folder}/runs/mlflow.db")
    assert client.get_run(run_id).info.status == "KILLED"

    assert user.types("train", "tiny.yaml") == 0
    assert steps[:3] == [0, 1, 2], "trained again what the checkpoint has"
    assert stored(user.folder)[0] == [run_id]
    assert client.get_run(run_id).info.status == "FINISHED"


@pytest.mark.slow
def test_an_interrupted_training_goes_on_from_its_checkpoint(user: User) -> None:
    command = [
        sys.executable,
        "-c",
        "from switokd.cli.main import main; main()",
        "train",
        "tiny.yaml",
    ]
    environment = {
        **os.environ,
        "PYTHONPATH": str(Path(__file__).parents[2]),
        "PYTHONUNBUFFERED": "1",
        "OMP_NUM_THREADS": "1",
    }
    first = subprocess.Popen(
        [*command, "recipe.epochs=200"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )
    while not next_line(first).startswith("epoch 1/"):
        pass
    first.send_signal(signal.SIGINT)
    _, errors = first.communicate(timeout=120)
    assert first.returncode == 130
    assert errors.splitlines()[-2:] == [
        "a checkpoint is kept: the same command goes on from it",
        "switokd: interrupted",
    ]
    assert "Traceback" not in errors
    client = MlflowClient(f"sqlite:///{user.folder}/runs/mlflow.db")
    (run_id,), _ = stored(user.folder)
    assert client.get_run(run_id).info.status == "KILLED"
    second = subprocess.Popen(
        [*command, "recipe.epochs=200"], stdout=subprocess.PIPE, text=True, env=environment
    )
    while not (line := next_line(second)).startswith("epoch "):
        pass
    assert not line.startswith("epoch 1/")
    second.kill()
    second.communicate()
