"""What can be done without the heavy libraries, each in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

TINY = """
name: tiny
dataset: digits
cohorts: [{teachers: [wrn_16_2], students: [wrn_16_1]}]
methods: [dml]
recipe: {epochs: 1, batch_size: 512, image_size: 8}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(TINY, encoding="utf-8")
    return path


def run_in_new_process(script: str, folder: Path) -> None:
    answer = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)},
        check=False,
    )
    assert answer.returncode == 0, answer.stderr


def test_checking_a_file_loads_nothing_heavy(file: Path) -> None:
    run_in_new_process(
        "import sys, switokd, switokd.spec.trial, switokd.spec.experiment, switokd.cli.main\n"
        f"assert switokd.spec.experiment.load_experiment({str(file)!r}).trials\n"
        "heavy = {'torch', 'ray', 'mlflow', 'pandas', 'sklearn'} & set(sys.modules)\n"
        "assert not heavy, heavy",
        file.parent,
    )


@pytest.mark.slow
def test_a_trial_trains_where_neither_ray_nor_mlflow_is_installed(file: Path) -> None:
    run_in_new_process(
        "import sys\n"
        "for absent in ('ray', 'mlflow', 'streamlit', 'plotly'):\n"
        "    sys.modules[absent] = None\n"
        "from switokd import train\n"
        "from switokd.spec import experiment\n"
        f"(trial,) = experiment.load_experiment({str(file)!r}).trials\n"
        "result = train.run(trial, threads=1)\n"
        "assert result.run_id is None\n"
        "assert 'last_val_top1/S1' in result.metrics\n"
        "assert (result.folder / 'timeline.parquet').exists()",
        file.parent,
    )
