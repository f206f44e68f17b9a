"""The commands as functions of `switokd`, and the page that shows them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import switokd
from switokd import names
from switokd.session.trial_session import open_session
from switokd.tracking import tracker as tracking
from switokd.tracking.tracker import TrialTracker
from switokd.validation import SpecError
from tests.compatibility import cases
from tests.forks import forking
from tests.tuning.workplace import small_experiment

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "python.md"


def test_importing_it_loads_next_to_nothing() -> None:
    script = "import sys, switokd; assert not {'torch', 'pydantic', 'rich'} & set(sys.modules)"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    assert (
        subprocess.run([sys.executable, "-c", script], env=environment, check=False).returncode == 0
    )


def test_a_mapping_is_checked_as_a_file_is_and_left_as_it_was() -> None:
    mapping = small_experiment()
    with pytest.raises(
        SpecError, match=r"the experiment with recipe\.epochs=0: recipe\.epochs: must"
    ):
        switokd.load_experiment(mapping, ["recipe.epochs=0"])
    assert mapping == small_experiment()
    with pytest.raises(AttributeError, match="no attribute 'swep'"):
        _ = switokd.swep


@pytest.mark.usefixtures("tiny_models")
def test_frames_of_a_tracked_trial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    (trial,) = cases.experiment("framed").trials
    store = tracking.open_experiment("framed", uri, tmp_path)
    with open_session(
        trial, runs=tmp_path, threads=1, tracker=TrialTracker(store, trial)
    ) as session:
        reports = list(session.epochs())
        session.finish()
    epochs = switokd.epochs(trial.trial_id[:8])
    assert list(epochs.index) == [1, 2, 3]
    assert list(epochs["val_top1/S1"]) == [report.scores["S1"].top1 for report in reports]
    assert {"ce/T1", "lr/T1", "agreement/T1-S1", names.IMAGES_PER_SECOND} <= set(epochs)
    assert not {"gap/T1-S1", "train_seconds"} & set(epochs), "no metric of an epoch"
    steps = switokd.timelines(trial.trial_id)
    assert list(steps["step"]) == list(range(1, session.trainer.step + 1))
    frame = switokd.compare("framed")
    assert list(frame["network"]) == ["S1", "T1"]
    drawn = switokd.timeline_figure(trial.trial_id[:8])
    gaps = next(trace for trace in drawn.data if (trace.name or "").endswith("seed 0 gap"))
    assert list(gaps.x) == list(steps["step"])
    assert list(gaps.y) == pytest.approx(list(steps["gap"]), abs=1e-6)
    curves = {tuple(trace.y) for trace in drawn.data if trace.y is not None}
    assert tuple(epochs["val_top1/S1"]) in curves
    for figure in (switokd.comparison_figure("framed"), switokd.cost_figure("framed")):
        shown = [x for trace in figure.data for x in (*(trace.x or ()), *(trace.y or ()))]
        assert frame["last_mean"].iloc[0] in shown
    with pytest.raises(SpecError, match="unknown cost 'seconds'; did you mean 'train_seconds'"):
        switokd.cost_figure("framed", "seconds")
    with pytest.raises(SpecError, match="name at least one run"):
        switokd.timeline_figure()
    again = switokd.train(trial, runs=tmp_path / "alone", threads=1)
    assert frame["last_mean"].iloc[0] == pytest.approx(again.metrics["last_val_top1/S1"])


@pytest.mark.slow
def test_the_page_runs_as_it_is_written(tmp_path: Path) -> None:
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == 6
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "MLFLOW_"))}
    answer = subprocess.run(
        [sys.executable, "-c", "\n".join(blocks)],
        cwd=tmp_path,
        env={**environment, **forking(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert answer.returncode == 0, answer.stderr
    assert "wrn_16_1>resnet20" in answer.stdout


@pytest.mark.slow
def test_the_notebook_runs_from_the_first_cell_to_the_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(PAGE.with_name("notebook.ipynb"), as_version=4)
    nbformat.validate(notebook)
    assert not any(cell.get("outputs") for cell in notebook.cells), "outputs are not kept"
    for cell in notebook.cells:
        cell["source"] = (
            cell["source"].replace('"epochs": 6', '"epochs": 2').replace("[0, 1]", "[0]")
        )
    for name in list(os.environ):
        if name.startswith(("RAY_", "MLFLOW_")):
            monkeypatch.delenv(name)
    for name, value in forking(ROOT).items():
        monkeypatch.setenv(name, value)
    resources = {"metadata": {"path": str(tmp_path)}}
    client = NotebookClient(notebook, timeout=300, resources=resources)
    client.execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    shown = "".join(output.get("text", "") for output in outputs)
    assert "unknown dataset 'digit'; did you mean 'digits'?" in shown
    assert re.search(r"expert mode in \d+% of 10 steps", shown)
    kinds = [kind for output in outputs for kind in output.get("data", {})]
    assert kinds.count("application/vnd.plotly.v1+json") == 2
    assert "text/html" in kinds, "no table"
