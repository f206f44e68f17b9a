"""docker/slurm.sbatch under a real Slurm of two nodes: stopped, put back, and gone on with."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docker.slurm import (
    ADDRESS,
    NODES,
    may_make_networks,
    missing_programs,
    running_slurm,
)
from tests.machine import lacking
from tests.processes import await_
from tests.tuning.mlflow_server import Server
from tests.tuning.test_survival import assert_as_if_undisturbed
from tests.tuning.workplace import Workplace, small_experiment

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).parents[2]
# what this machine has in the place of a cluster's nodes
HERE = ("--nodes=2", "--cpus-per-task=1", "--gpus-per-node=0", "--time=30")


@pytest.fixture
def slurm(tmp_path: Path) -> Iterator[dict[str, str]]:
    if missing := missing_programs():
        lacking(f"Slurm ({', '.join(missing)})")
    if not may_make_networks():
        pytest.skip("needs the right to make networks")
    with running_slurm(tmp_path) as environment:
        yield environment


def state(job: str, environment: dict[str, str]) -> str:
    shown = subprocess.run(
        ["scontrol", "show", "job", job],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return shown.stdout.split("JobState=")[1].split()[0]


def test_a_job_near_its_time_limit_is_put_back_and_goes_on(
    slurm: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "server").mkdir()
    server = Server(tmp_path / "server", host=ADDRESS)
    server.start()
    workplace = Workplace(tmp_path, MLFLOW_TRACKING_URI=server.uri)
    content = small_experiment(
        name="slurm",
        methods=["dml", "switokd"],
        recipe={"epochs": 2},
        resources={"checkpoint_seconds": 0},
    )
    trials = workplace.write(content).trials
    workplace.let(2, *trials)
    (tmp_path / ".venv").symlink_to(REPOSITORY / ".venv")
    environment = slurm | workplace.environment
    # a node goes with its head, which it else expects back for a minute
    environment["RAY_gcs_rpc_server_reconnect_timeout_s"] = "5"
    command = ["sbatch", "--parsable", *HERE, REPOSITORY / "docker" / "slurm.sbatch"]
    submitted = subprocess.run(
        [*command, workplace.file], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    job = submitted.stdout.strip()
    assert job, submitted.stderr
    log = tmp_path / f"switokd-{job}.log"
    try:
        await_(lambda: all(map(workplace.held, trials)))
        hosts = {
            json.loads((workplace.trial_folder(trial) / "lock").read_text())["host"]
            for trial in trials
        }
        assert hosts == set(NODES), "a trial on each node"
        # as Slurm does by itself before the time limit
        subprocess.run(["scancel", "--batch", "--signal=USR1", job], env=slurm, check=True)
        await_(lambda: "back into the queue" in log.read_text())
        assert {run.info.status for run in workplace.trial_runs("slurm").values()} == {"KILLED"}
        workplace.let(None, *trials)
        await_(lambda: state(job, slurm) == "PENDING", pause=0.5)
        # its nodes have revoked what the job could show, and refuse what is of the same second
        subprocess.run(
            ["scontrol", "update", f"JobId={job}", "StartTime=now+5"], env=slurm, check=True
        )
        ends = ("COMPLETED", "FAILED", "CANCELLED")
        await_(lambda: state(job, slurm) in ends, seconds=300, pause=0.5)
        assert state(job, slurm) == "COMPLETED"
        assert "back into the queue" in log.read_text(), "each turn adds to the log"
        for trial in trials:
            assert_as_if_undisturbed(workplace, trial)
    except BaseException:
        print(log.read_text() if log.exists() else "no log")
        raise
    finally:
        server.stop()
