"""The command line as its users meet it: what it prints, and how it ends."""

from __future__ import annotations

import time
from pathlib import Path

import mlflow
import numpy as np
import pytest
from mlflow import MlflowClient

from switokd.cli import main as cli
from switokd.cli import run_trials
from switokd.data.sets.digits import load as load_digits
from switokd.models import MODELS
from switokd.validation import DataError
from tests.cli.conftest import User, stored

TWO = ("seeds=[0, 1]",)


def test_train_prints_epochs_summary_and_where_its_files_are(trained: tuple[Path, str]) -> None:
    folder, output = trained
    assert "resnet20>wrn_16_1 switokd tau=1 seed=0" in output
    assert "epoch 1/1  top-1 T1 " in output
    for name in ("best_val_top1/S1", "last_val_top1/T1", "expert_share/T1-S1", "train_seconds"):
        assert output.count(name) == 1
    (run_id,), _ = stored(folder)
    assert f"run {run_id}, files in {folder}" in output


def test_a_finished_trial_is_not_trained_again(owner: User) -> None:
    before = stored(owner.folder)
    assert owner.types("train", "tiny.yaml") == 0
    assert "finished before: not trained again" in owner.output
    assert "epoch 1/1" not in owner.output
    assert owner.output.count("best_val_top1/S1") == 1
    assert before[0][0] in owner.output
    assert stored(owner.folder) == before


def test_evaluate_a_run_and_its_files_agree_with_training(owner: User) -> None:
    (run_id,), _ = stored(owner.folder)
    client = MlflowClient(f"sqlite:///{owner.folder}/runs/mlflow.db")
    tracked = client.get_run(run_id).data.metrics
    assert owner.types("evaluate", run_id) == 0
    rows = [line.split() for line in owner.output.splitlines() if "digits" in line]
    assert sorted(row[:3] for row in rows) == [
        ["S1", "wrn_16_1", "digits"],
        ["T1", "resnet20", "digits"],
    ]
    (file,) = owner.folder.glob("runs/tiny/trials/*/weights/S1-last.pt")
    assert owner.types("evaluate", str(file)) == 0
    (row,) = [line.split() for line in owner.output.splitlines() if "digits" in line]
    assert row[2:5] == [
        f"{tracked['last_val_top1/S1']:.2f}",
        f"{tracked['val_top5/S1']:.2f}",
        f"{tracked['val_loss/S1']:.4f}",
    ]


def test_a_run_may_be_called_by_its_trial(owner: User) -> None:
    (trial,) = owner.folder.glob("runs/tiny/trials/*")
    assert owner.types("evaluate", trial.name[:6], "--network", "S1") == 0
    (row,) = [line.split() for line in owner.output.splitlines() if "digits" in line]
    assert row[:2] == ["S1", "wrn_16_1"]


def test_evaluate_tells_what_it_cannot_find(owner: User) -> None:
    (run_id,), _ = stored(owner.folder)
    (file,) = owner.folder.glob("runs/tiny/trials/*/weights/S1-last.pt")
    assert "has no best weights of 'S2' (it has those of: S1, T1)" in owner.is_told(
        "evaluate", run_id, "--network", "S2"
    )
    assert "has no run 'abc': give a run id, a trial id" in owner.is_told("evaluate", "abc")
    assert owner.is_told("evaluate", "a.pt").startswith("a.pt: no such file (looked at /")
    assert owner.is_told("evaluate", "a/b").startswith("a/b: no such file (looked at /")
    assert "which holds one network" in owner.is_told("evaluate", str(file), "--network", "S1")
    assert "are of a file" in owner.is_told("evaluate", run_id, "--model", "resnet20")
    told = owner.is_told("evaluate", str(file), "--model", "resnet21")
    assert told.startswith("unknown network 'resnet21'; did you mean 'resnet20'? (known: ")
    told = owner.is_told("evaluate", str(file), "--model", "resnet20")
    assert "not the weights of resnet20 with 10 classes" in told


def test_compare_reads_what_is_tracked(owner: User) -> None:
    assert owner.types("compare", "tiny") == 0
    assert "resnet20>wrn_16_1 (1T1S)" in owner.output
    assert owner.types("compare", "--csv", "out.csv") == 0
    assert "wrn_16_1" in (owner.folder / "out.csv").read_text(encoding="utf-8")
    assert "no experiment 'tinny'" in owner.is_told("compare", "tinny")
    assert "did you mean 'tiny'?" in owner.errors
    told = owner.is_told("compare", "--csv", "nowhere/out.csv")
    assert told == "nowhere/out.csv: cannot be written (No such file or directory)"
    told = owner.is_told("compare", "--baseline", "switok")
    assert told == "unknown baseline 'switok'; did you mean 'switokd'? (known: switokd)"


def test_compare_writes_one_page_and_tables(owner: User) -> None:
    names = ("--html", "report.html"), ("--csv", "table.csv"), ("--latex", "table.tex")
    assert owner.types("compare", "tiny", *(word for option in names for word in option)) == 0
    page = (owner.folder / "report.html").read_text(encoding="utf-8")
    assert "resnet20&gt;wrn_16_1" in page
    assert "<script src=" not in page
    assert "wrn_16_1" in (owner.folder / "table.csv").read_text(encoding="utf-8")
    assert r"\begin{tabular}" in (owner.folder / "table.tex").read_text(encoding="utf-8")
    missing = owner.is_told("compare", "tiny", "--html", "no/report.html")
    assert missing == "no/report.html: cannot be written (No such file or directory)"


def test_explain_logs_its_figures_to_the_run(owner: User) -> None:
    (run_id,), _ = stored(owner.folder)
    assert owner.types("explain", run_id, "--images", "3") == 0
    assert "peak_overlap T1-S1" in owner.output
    client = MlflowClient(f"sqlite:///{owner.folder}/runs/mlflow.db")
    logged = {artifact.path for artifact in client.list_artifacts(run_id, "explain")}
    files = ("agreement.json", "heat_maps.npz", "heat_maps.png", "surfaces.html")
    assert logged == {f"explain/{name}" for name in files}
    assert "0" * 32 in owner.is_told("explain", "0" * 32)


@pytest.mark.slow
def test_export_logs_models_that_read_back(owner: User) -> None:
    (run_id,), _ = stored(owner.folder)
    assert owner.types("export", run_id, "--network", "S1", "--weights", "last") == 0
    name, address = owner.output.splitlines()[0].split()
    assert (name, address[:10]) == ("S1", "models:/m-")
    assert owner.types("evaluate", run_id, "--network", "S1", "--weights", "last") == 0
    (row,) = [line.split() for line in owner.output.splitlines() if "digits" in line]
    uri = f"sqlite:///{owner.folder}/runs/mlflow.db"
    mlflow.set_tracking_uri(uri)
    raw = load_digits(Path())
    answer = mlflow.pyfunc.load_model(address).predict(raw.test_images)
    right = np.mean(answer["class"] == raw.test_labels.astype(str))
    assert f"{100 * right:.2f}" == row[3], "as good on the images themselves as evaluate says"
    run = MlflowClient(uri).get_run(run_id)
    assert run.info.status == "FINISHED"
    assert [model.model_id for model in run.outputs.model_outputs] == [address.partition("/")[2]]
    assert "no best weights of 'S2'" in owner.is_told("export", run_id, "--network", "S2")


def test_a_dry_run_knows_what_has_finished(owner: User) -> None:
    assert owner.types("sweep", "tiny.yaml", "--dry-run") == 0
    assert "finished" in owner.output
    assert "0 of 1 trial to train" in owner.output
    told = owner.is_told("sweep", "tiny.yaml", "--dry-run", "resources.cpus=9999")
    assert told.startswith("resources.cpus: a trial asks for 9999; this machine has ")


def test_without_a_store_nothing_is_made(user: User) -> None:
    for arguments in (("compare",), ("compare", "tiny"), ("evaluate", "abc")):
        assert "no tracking store at sqlite:///" in user.is_told(*arguments)
    assert [path.name for path in user.folder.iterdir()] == ["tiny.yaml"]


def test_a_file_with_several_trials_asks_which(user: User) -> None:
    told = user.is_told("train", "tiny.yaml", *TWO).splitlines()
    assert told[0] == "tiny.yaml expands to 2 trials; choose one with --trial ID_PREFIX:"
    assert [line.split(maxsplit=1)[1] for line in told[1:]] == [
        f"resnet20>wrn_16_1 switokd tau=1 seed={seed}" for seed in (0, 1)
    ]
    ids = [line.split()[0] for line in told[1:]]
    told = user.is_told("train", "tiny.yaml", *TWO, "--trial", "none")
    assert told.startswith("--trial 'none' matches 0 trials of tiny.yaml:")
    assert all(trial_id in told for trial_id in ids)
    assert user.is_told("train", "tiny.yaml", *TWO, "--trial", "").startswith("--trial '' matches")
    assert [path.name for path in user.folder.iterdir()] == ["tiny.yaml"]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("train", "none.yaml"), "none.yaml: no such file"),
        (("sweep", "none.yaml"), "none.yaml: no such file"),
        (("train", "."), ".: cannot be read: Is a directory"),
        (("train", "tiny.yaml", "epochs"), "override 'epochs': must be key=value"),
        (("sweep", "tiny.yaml", "seeds=[]"), "tiny.yaml with seeds=[]: seeds: must have at least"),
        (("train", "tiny.yaml", "recipe.lr=1"), "tiny.yaml with recipe.lr=1: recipe: unknown key"),
    ],
)
def test_a_mistake_ends_with_one_message(user: User, arguments: tuple[str, ...], told: str) -> None:
    assert user.is_told(*arguments).startswith(told)
    assert user.output == ""


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("train",), "Missing argument 'EXPERIMENT.yaml'"),
        (("tran", "tiny.yaml"), "No such command 'tran'"),
        (("train", "tiny.yaml", "--trail", "x"), "No such option: --trail"),
        (("evaluate", "x.pt", "--weights", "worst"), "'worst' is not one of 'best', 'last'"),
    ],
)
def test_a_wrong_option_shows_the_usage(user: User, arguments: tuple[str, ...], told: str) -> None:
    assert user.types(*arguments) == 2
    assert told in user.errors
    assert "Usage: " in user.errors


@pytest.mark.parametrize(
    "uri", ["http://127.0.0.1:9", "nonsense://x", "sqlite:///broken.db", "sqlite:////proc/no/x.db"]
)
def test_a_store_that_cannot_be_used(user: User, monkeypatch: pytest.MonkeyPatch, uri: str) -> None:
    (user.folder / "broken.db").write_bytes(b"no database" * 100)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    began = time.monotonic()
    place = uri.removeprefix("sqlite:///")
    assert place in user.is_told("train", "tiny.yaml")
    assert place in user.is_told("sweep", "tiny.yaml")
    assert place in user.is_told("compare", "tiny")
    assert place in user.is_told("evaluate", "abc")
    # MLflow's own client tries for minutes
    assert time.monotonic() - began < 60


def test_runs_that_cannot_be_written(user: User, monkeypatch: pytest.MonkeyPatch) -> None:
    (user.folder / "runs").write_text("in the way", encoding="utf-8")
    told = f"{user.folder}/runs: cannot be written (File exists); all output goes there"
    assert user.is_told("train", "tiny.yaml") == told
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///elsewhere.db")
    assert user.is_told("train", "tiny.yaml") == told


def test_data_that_is_not_there(user: User) -> None:
    told = user.is_told("sweep", "tiny.yaml", "--dry-run", "dataset=cifar10")
    assert told.startswith(
        f"tiny.yaml: dataset: {user.folder}/data/cifar-10-batches-py is not there"
    )


@pytest.mark.parametrize(
    ("error", "status", "told"),
    [
        (DataError("x is damaged"), 2, "switokd: x is damaged\n"),
        (KeyboardInterrupt(), 130, "switokd: interrupted\n"),
        (cli.typer.Exit(1), 1, ""),
        (cli.typer.Exit(0), 0, ""),
    ],
)
def test_how_a_command_ends_is_the_status(
    user: User,
    monkeypatch: pytest.MonkeyPatch,
    error: BaseException,
    status: int,
    told: str,
) -> None:
    def load(*_: object) -> None:
        raise error

    monkeypatch.setattr(run_trials, "load_experiment", load)
    assert user.types("train", "tiny.yaml") == status
    assert user.errors == told


def test_an_error_of_ours_is_not_hidden(user: User, monkeypatch: pytest.MonkeyPatch) -> None:
    def load(*_: object) -> None:
        raise KeyError("a programmer's mistake")

    monkeypatch.setattr(run_trials, "load_experiment", load)
    with pytest.raises(KeyError):
        cli.main(["train", "tiny.yaml"])


def test_models_lists_the_zoo(user: User) -> None:
    assert user.types("models") == 0
    assert [line.split()[0] for line in user.output.splitlines() if "," in line] == list(MODELS)
    assert "704,420" in user.output


def test_help_fits_a_terminal_and_tells_each_command_in_full(
    user: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert user.types("--help") == 0
    assert "..." not in user.output.partition("Commands:")[2]
    for command in ("sweep", "train", "evaluate", "compare", "models"):
        assert f"  {command} " in user.output
    for command in ("sweep", "train", "evaluate", "compare", "models"):
        assert user.types(command, "--help") == 0
        assert all(len(line) <= 80 for line in user.output.splitlines())
        assert "Usage: " in user.output
