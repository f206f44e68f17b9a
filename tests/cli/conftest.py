"""A user at a command line, in a folder with one small experiment; and one who has trained it."""

from __future__ import annotations

import io
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from mlflow import MlflowClient
from rich.console import Console

from switokd.cli import compare, inspect_networks, prune, run_trials
from switokd.cli import main as cli

PRINTING = (run_trials, compare, inspect_networks, prune)
TINY = """
name: tiny
dataset: digits
cohorts: [{teachers: [resnet20], students: [wrn_16_1]}]
methods: [switokd]
recipe: {epochs: 1, batch_size: 512, image_size: 8}
"""


class User:
    """Types commands in a folder of their own; keeps what was printed last."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self.output = ""
        self.errors = ""
        self._capsys = capsys

    def types(self, *arguments: str) -> int:
        with pytest.raises(SystemExit) as end:
            cli.main(list(arguments))
        self.output, self.errors = self._capsys.readouterr()
        assert isinstance(end.value.code, int)
        return end.value.code

    def is_told(self, *arguments: str) -> str:
        """One message, status 2."""
        assert self.types(*arguments) == 2
        assert self.errors.startswith("switokd: ")
        assert "Traceback" not in self.errors
        return self.errors.removeprefix("switokd: ").rstrip("\n")


def _sit_down(folder: Path, patch: pytest.MonkeyPatch) -> None:
    (folder / "tiny.yaml").write_text(TINY, encoding="utf-8")
    patch.chdir(folder)
    patch.setenv("SWITOKD_DATA", str(folder / "data"))
    patch.delenv("MLFLOW_TRACKING_URI", raising=False)


@pytest.fixture
def user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> User:
    _sit_down(tmp_path, monkeypatch)
    for module in PRINTING:
        monkeypatch.setattr(module, "console", Console(width=140))
    return User(tmp_path, capsys)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """A folder in which the one trial of the file has been trained, and what that printed."""
    folder, output = tmp_path_factory.mktemp("trained"), io.StringIO()
    interrupt, threads = signal.getsignal(signal.SIGINT), torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch:
        _sit_down(folder, patch)
        for module in PRINTING:
            patch.setattr(module, "console", Console(file=output, width=140))
        with pytest.raises(SystemExit) as end:
            cli.main(["train", "tiny.yaml"])
    assert end.value.code == 0
    yield folder, output.getvalue()
    signal.signal(signal.SIGINT, interrupt)
    torch.set_num_threads(threads)


@pytest.fixture
def owner(
    trained: tuple[Path, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> User:
    """The user of the folder with the trained trial."""
    _sit_down(trained[0], monkeypatch)
    for module in PRINTING:
        monkeypatch.setattr(module, "console", Console(width=140))
    return User(trained[0], capsys)


def stored(folder: Path) -> tuple[list[str], int]:
    """The ids of the experiment's trial runs, and how many points they have."""
    client = MlflowClient(f"sqlite:///{folder}/runs/mlflow.db")
    experiment = client.get_experiment_by_name("tiny")
    assert experiment is not None
    found = client.search_runs([experiment.experiment_id])
    runs = [run for run in found if "switokd.trial_id" in run.data.tags]
    # the one other is the sweep's, their parent
    (sweep,) = (run for run in found if run not in runs)
    assert {run.data.tags["mlflow.parentRunId"] for run in runs} == {sweep.info.run_id}
    assert sweep.info.status == "FINISHED"
    points = sum(
        len(client.get_metric_history(run.info.run_id, name))
        for run in runs
        for name in run.data.metrics
    )
    return [run.info.run_id for run in runs], points
