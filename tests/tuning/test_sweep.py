"""A sweep of real trials, and what each of its calls leaves in the store."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from mlflow.entities import Run, ViewType

from switokd.spec.experiment import load_experiment
from switokd.spec.tracked_params import params_of
from switokd.spec.trial import TrialSpec
from switokd.training.timeline import window_size
from tests.processes import await_
from tests.tuning.workplace import Workplace, assert_same_weights, small_experiment

pytestmark = pytest.mark.slow

DIVERGING = {"teachers": ["wrn_16_1"], "students": [{"model": "resnet20", "learning_rate": 1e6}]}
LINK = "T1-S1"


class FirstSweep:
    """A sweep with a cohort that diverges, and a second one that comes while it runs."""

    def __init__(self, workplace: Workplace) -> None:
        content = small_experiment()
        content["cohorts"].append(DIVERGING)
        self.trials = workplace.write(content).trials
        self.good = [t for t in self.trials if not _diverges(t)]
        first = workplace.start("sweep", workplace.file.name)
        self.pid = first.pid
        await_((workplace.folder / "runs" / "small" / "trials").is_dir, of=first)
        self.second_output = workplace.sweep(status=2)
        self.output = first.ended(1)
        self.runs = workplace.trial_runs("small")


def _diverges(trial: TrialSpec) -> bool:
    return any(network.learning_rate > 1 for network in trial.networks.values())


@pytest.fixture(scope="module")
def workplace(lone_workplace: Workplace) -> Workplace:
    return lone_workplace


@pytest.fixture(scope="module")
def first(workplace: Workplace) -> FirstSweep:
    return FirstSweep(workplace)


def test_a_second_sweep_names_the_first_and_stops(first: FirstSweep) -> None:
    message = first.second_output.strip().splitlines()[-1]
    assert f"process {first.pid} on host {socket.gethostname()}" in message
    assert "Traceback" not in first.second_output


def test_diverged_trials_fail_alone_and_say_where(first: FirstSweep) -> None:
    assert {t.trial_id for t in first.trials} == set(first.runs)
    for trial in first.trials:
        run = first.runs[trial.trial_id]
        if _diverges(trial):
            assert run.info.status == "FAILED"
            reason = run.data.tags["switokd.failure"]
            assert reason.startswith("diverged at step ")
            assert reason.split("the loss of ")[1].split()[0] in trial.networks
            assert f"--trial {trial.trial_id}" in first.output
        else:
            assert run.info.status == "FINISHED", trial.label
            assert "switokd.failure" not in run.data.tags


def test_every_trial_is_a_child_of_the_one_sweep_run(
    workplace: Workplace, first: FirstSweep
) -> None:
    sweeps = [r for r in workplace.runs("small") if "switokd.trial_id" not in r.data.tags]
    assert len(sweeps) == 1
    assert sweeps[0].info.status == "FAILED"
    parents = {run.data.tags["mlflow.parentRunId"] for run in first.runs.values()}
    assert parents == {sweeps[0].info.run_id}


def test_params_and_tags_are_the_contracts(first: FirstSweep) -> None:
    for trial in first.trials:
        run = first.runs[trial.trial_id]
        assert run.data.params == params_of(trial)
        tags = run.data.tags
        assert tags["switokd.method"] == trial.method.name
        assert tags["switokd.variant"] == trial.method.name
        alone = trial.method.name == "vanilla"
        assert tags["switokd.topology"] == ("single" if alone else "1T1S")
        assert tags["switokd.pair"] == trial.pair
        assert tags["switokd.git_commit"]


def test_every_epoch_series_has_one_value_an_epoch(workplace: Workplace, first: FirstSweep) -> None:
    for trial in first.good:
        series = workplace.series(first.runs[trial.trial_id])
        quantities = ("val_top1", "val_top5", "val_loss", "train_loss", "ce", "lr")
        names = [f"{quantity}/{name}" for quantity in quantities for name in trial.networks]
        names += ["images_per_second", "system/process_cores_busy", "system/process_memory_mib"]
        names += [f"{q}/{n}" for q in ("best_val_top1", "last_val_top1") for n in trial.networks]
        names += ["train_seconds", "peak_memory_mib"]
        cost = ("parameters", "multiply_adds", "milliseconds_per_image")
        names += [f"{quantity}/{name}" for quantity in cost for name in trial.networks]
        if trial.links:
            names += [f"agreement/{LINK}", f"expert_share/{LINK}", "paused_share/T1"]
        for name in names:
            assert list(series.pop(name)) == [trial.recipe.epochs], name
        series = {k: v for k, v in series.items() if not k.startswith("val_calibration_error/")}
        windows = {f"{q}/{LINK}" for q in ("gap", "threshold", "expert")} | {"paused/T1"}
        if trial.method.name != "switokd" and trial.links:
            windows.add(f"would_be_expert/{LINK}")
            assert list(series.pop(f"would_be_expert_share/{LINK}")) == [trial.recipe.epochs]
        assert set(series) == (windows if trial.links else set())


def test_windows_are_the_means_of_the_complete_timeline(
    workplace: Workplace, first: FirstSweep
) -> None:
    for trial in first.good:
        run = first.runs[trial.trial_id]
        series = workplace.series(run)
        if not trial.links:
            continue
        timeline = _timeline(workplace, run)
        steps = len(timeline)
        assert timeline["step"].tolist() == list(range(1, steps + 1))
        size = window_size(steps)
        last = np.minimum((np.arange(steps) // size + 1) * size, steps)
        means = timeline.groupby(last)[["gap", "threshold", "expert"]].mean()
        for quantity in ("gap", "threshold", "expert"):
            tracked = series[f"{quantity}/{LINK}"]
            assert sorted(tracked) == means.index.tolist()
            expected = means[quantity].to_numpy()
            np.testing.assert_allclose([tracked[s] for s in means.index], expected, rtol=1e-5)
        assert series["paused/T1"] == series[f"expert/{LINK}"]
        share = series[f"expert_share/{LINK}"].popitem()[1]
        assert share == pytest.approx(timeline["expert"].mean(), abs=1e-6)
        if trial.method.name == "dml":
            assert not timeline["expert"].any()


def _timeline(workplace: Workplace, run: Run) -> pd.DataFrame:
    path = workplace.client.download_artifacts(run.info.run_id, "timeline.parquet")
    return pd.read_parquet(path)


def test_artifacts_lie_under_runs_and_describe_the_trial(
    workplace: Workplace, first: FirstSweep
) -> None:
    for trial in first.good:
        run = first.runs[trial.trial_id]
        folder = Path(run.info.artifact_uri.removeprefix("file://"))
        assert folder.is_relative_to(workplace.folder / "runs")
        names = {str(path.relative_to(folder)) for path in folder.rglob("*.*")}
        expected = {"spec.yaml"} | ({"timeline.parquet", "timeline.png"} if trial.links else set())
        expected |= {f"weights/{n}-{w}.pt" for n in trial.networks for w in ("best", "last")}
        assert names == expected
        stored = TrialSpec.model_validate(yaml.safe_load((folder / "spec.yaml").read_text()))
        assert stored.trial_id == trial.trial_id


def test_the_sweeps_run_has_the_comparison_to_read_and_to_sort_by(
    workplace: Workplace, first: FirstSweep
) -> None:
    (sweep,) = workplace.client.search_runs(
        [first.runs[first.good[0].trial_id].info.experiment_id], "tags.`switokd.sweep` != ''"
    )
    names = {file.path for file in workplace.client.list_artifacts(sweep.info.run_id)}
    assert names == {"comparison.csv", "comparison.html", "experiment.yaml"}
    best = [value for name, value in sweep.data.metrics.items() if name.startswith("best_top1/")]
    reached = [
        run.data.metrics["last_val_top1/S1"]
        for run in first.runs.values()
        if "last_val_top1/S1" in run.data.metrics and run.data.tags["switokd.topology"] != "single"
    ]
    assert best
    assert max(best) == pytest.approx(max(reached), abs=1e-3)


TRAIN = """
import sys
from pathlib import Path
from switokd.spec.trial import TrialSpec
from switokd.train import run
run(TrialSpec.model_validate_json(sys.argv[1]), runs=Path(sys.argv[2]), threads=1)
"""


def _train_in_a_fresh_process(workplace: Workplace, trial: TrialSpec) -> Path:
    runs = workplace.folder / "alone"
    command = [sys.executable, "-c", TRAIN, trial.model_dump_json(), str(runs)]
    subprocess.run(command, env=workplace.environment, check=True, timeout=300)
    return runs / trial.experiment / "trials" / trial.trial_id


def test_a_reused_worker_trains_as_a_fresh_process_does(
    workplace: Workplace, first: FirstSweep
) -> None:
    hosts = [workplace.worker_pid(trial) for trial in first.trials]
    assert len(set(hosts)) < len(hosts), "no worker was used twice"
    last_of_its_worker = max(
        (t for t in first.good if t.links),
        key=lambda t: first.runs[t.trial_id].info.start_time,
    )
    alone = _train_in_a_fresh_process(workplace, last_of_its_worker)
    swept = workplace.trial_folder(last_of_its_worker)
    assert_same_weights(alone, swept)
    pd.testing.assert_frame_equal(
        pd.read_parquet(alone / "timeline.parquet"), pd.read_parquet(swept / "timeline.parquet")
    )


def test_the_log_tells_each_trials_end_in_one_line(first: FirstSweep) -> None:
    lines = first.output.splitlines()
    for trial in first.trials:
        state = "failed" if _diverges(trial) else "finished"
        ended = [line for line in lines if line.startswith(state) and trial.trial_id in line]
        assert len(ended) == 1, trial.label
        assert trial.label in ended[0]
    assert not [line for line in lines if "\x1b" in line]


class LaterSweeps:
    """The same file without the diverging cohort: as it is, with one more trial, and afresh."""

    def __init__(self, workplace: Workplace, first: FirstSweep) -> None:
        before = workplace.trial_runs("small")
        content: dict[str, Any] = small_experiment()
        workplace.write(content)
        self.again = workplace.sweep()
        self.untouched = _histories(workplace) == _histories(workplace, before)
        content["methods"].append({"switokd": {"threshold": 0.6}})
        self.extended_trials = workplace.write(content).trials
        self.extended = workplace.sweep()
        self.extended_runs = workplace.trial_runs("small")
        self.fresh_trials = load_experiment(workplace.file, ["methods=[vanilla]"]).trials
        workplace.sweep("methods=[vanilla]", "--fresh")


def _histories(workplace: Workplace, runs: dict[str, Run] | None = None) -> dict[str, Any]:
    runs = runs or workplace.trial_runs("small")
    return {key: (r.info.run_id, r.info.end_time, r.data.metrics) for key, r in runs.items()}


@pytest.fixture(scope="module")
def later(workplace: Workplace, first: FirstSweep, shared_ray: dict[str, str]) -> LaterSweeps:
    workplace.environment |= shared_ray
    return LaterSweeps(workplace, first)


def test_a_second_call_trains_nothing(later: LaterSweeps) -> None:
    assert "4 finished before, 0 to train" in later.again
    assert later.untouched


def test_an_added_trial_is_the_only_one_that_runs(first: FirstSweep, later: LaterSweeps) -> None:
    assert "4 finished before, 1 to train" in later.extended
    added = {t.trial_id for t in later.extended_trials} - set(first.runs)
    assert len(added) == 1
    assert later.extended_runs[added.pop()].data.tags["switokd.variant"] == "switokd(threshold=0.6)"
    for trial in first.good:
        mine, now = first.runs[trial.trial_id], later.extended_runs[trial.trial_id]
        assert (mine.info.run_id, mine.info.end_time) == (now.info.run_id, now.info.end_time)


def test_one_sweep_run_serves_every_call(workplace: Workplace, later: LaterSweeps) -> None:
    sweeps = [
        run
        for run in workplace.runs("small", ViewType.ALL)
        if "switokd.trial_id" not in run.data.tags
    ]
    assert len(sweeps) == 1
    assert sweeps[0].info.status == "FINISHED"


def test_fresh_trains_anew_and_deletes_restorably(
    workplace: Workplace, first: FirstSweep, later: LaterSweeps
) -> None:
    assert len(later.fresh_trials) == 2
    now = workplace.trial_runs("small")
    deleted = {run.info.run_id for run in workplace.runs("small", ViewType.DELETED_ONLY)}
    assert deleted == {first.runs[trial.trial_id].info.run_id for trial in later.fresh_trials}
    for trial in later.fresh_trials:
        old, new = first.runs[trial.trial_id], now[trial.trial_id]
        assert new.info.run_id != old.info.run_id
        assert new.info.status == "FINISHED"
        for name in ("last_val_top1/S1", "train_loss/S1"):
            assert new.data.metrics[name] == old.data.metrics[name]
