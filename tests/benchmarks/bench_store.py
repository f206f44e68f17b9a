"""A store of 100, 1,000 and 10,000 finished runs: what a sweep with nothing to do, a dry run, the
comparison and each page then take, in seconds and in memory.

The runs are copies of a real one with the params and tags of their own trials, so that the sweep
knows each of them as finished.
"""

from __future__ import annotations

import argparse
import json
import random
import sqlite3
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from switokd import names
from switokd.spec.tracked_params import params_of
from switokd.spec.trial import TrialSpec
from tests.forks.command import SWITOKD
from tests.shared_folder import open_shared_folder
from tests.tuning.workplace import Workplace, small_experiment

SIZES = (100, 1_000, 10_000)
THRESHOLDS = 100
PAGES = ("pairs", "timelines", "sensitivity", "cost", "live")
COMMANDS = {
    "sweep with nothing to do": ("sweep", "experiment.yaml"),
    "sweep --dry-run": ("sweep", "experiment.yaml", "--dry-run"),
    "compare": ("compare", "scale"),
}
# of a page, from an empty cache
OPEN_PAGE = """
from streamlit.testing.v1 import AppTest
page = "from dashboards.pages import {page}\\n{page}.page()"
app = AppTest.from_string(page, default_timeout=600).run()
assert not app.exception, app.exception[0].value
"""
COPIED = {
    "runs": "name, source_type, source_name, entry_point_name, user_id, status, start_time, "
    "end_time, source_version, lifecycle_stage, artifact_uri, experiment_id, deleted_time",
    "tags": "key, value",
    "metrics": "key, value, timestamp, step, is_nan",
    "latest_metrics": "key, value, timestamp, step, is_nan",
}


def experiment(size: int) -> dict[str, Any]:
    thresholds = [round(2 * number / THRESHOLDS, 4) for number in range(THRESHOLDS)]
    return small_experiment(
        name="scale",
        methods=[{"switokd": {"threshold": thresholds}}],
        seeds=list(range(size // THRESHOLDS)),
    )


def fill(workplace: Workplace, trials: Sequence[TrialSpec]) -> None:
    """Train the first trial, and copy its run for each of the others."""
    workplace.start("train", workplace.file.name, "--trial", trials[0].trial_id).ended()
    (template,) = workplace.trial_runs("scale").values()
    database = sqlite3.connect(workplace.folder / "runs" / "mlflow.db")
    database.create_function("noise", 0, random.Random(0).random)
    for trial in trials[1:]:
        copy_run(database, template.info.run_id, trial)
    database.commit()
    database.close()


def copy_run(database: sqlite3.Connection, template: str, trial: TrialSpec) -> None:
    copy = uuid.uuid4().hex
    for table, columns in COPIED.items():
        database.execute(
            f"insert into {table} (run_uuid, {columns}) "
            f"select ?, {columns} from {table} where run_uuid = ?",
            (copy, template),
        )
    database.executemany(
        "insert into params (run_uuid, key, value) values (?, ?, ?)",
        [(copy, key, value) for key, value in params_of(trial).items()],
    )
    for tag, value in ((names.TRIAL_ID, trial.trial_id), (names.VARIANT, trial.method.variant)):
        database.execute(
            "update tags set value = ? where run_uuid = ? and key = ?", (value, copy, tag)
        )
    database.execute(
        "update latest_metrics set value = value + noise() where run_uuid = ?", (copy,)
    )


def timed(command: Iterable[str], workplace: Workplace) -> tuple[float, float, str]:
    """Wall seconds of a process, its largest memory in MiB, and what it printed."""
    started = time.perf_counter()
    environment = workplace.environment | {"PYTHONPATH": str(Path.cwd())}
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(
            list(command),
            cwd=workplace.folder,
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        largest = 0.0
        while process.poll() is None:
            largest = max(largest, memory_mib(process.pid))
            time.sleep(0.05)
        seconds = time.perf_counter() - started
        output.seek(0)
        printed = output.read()
    assert process.returncode == 0, printed[-3000:]
    return seconds, largest, printed


def memory_mib(pid: int) -> float:
    """The largest memory that a process has held so far."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0.0
    lines = [line.split() for line in status.splitlines() if line.startswith("VmHWM:")]
    return int(lines[0][1]) / 1024 if lines else 0.0


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    parser.add_argument("--json", type=Path, help="write every figure there as well")
    options = parser.parse_args(arguments)
    open_shared_folder()
    found: dict[str, dict[int, tuple[float, float]]] = {}
    for size in options.sizes:
        with tempfile.TemporaryDirectory(prefix="scale-") as folder:
            workplace = Workplace(Path(folder))
            fill(workplace, workplace.write(experiment(size)).trials)
            for what, command in COMMANDS.items():
                *figures, printed = timed([*SWITOKD, *command], workplace)
                found.setdefault(what, {})[size] = (figures[0], figures[1])
                if command[0] == "sweep" and len(command) == 2:
                    assert f"{size} finished before, 0 to train" in printed, printed
                print(size, what, figures, file=sys.stderr, flush=True)
            for page in PAGES:
                code = [sys.executable, "-c", OPEN_PAGE.format(page=page)]
                *figures, _ = timed(code, workplace)
                found.setdefault(f"page {page}", {})[size] = (figures[0], figures[1])
                print(size, page, figures, file=sys.stderr, flush=True)
    table = Table("what", *(f"{size:,} runs" for size in options.sizes), box=None)
    for what, by_size in found.items():
        table.add_row(what, *(f"{s:.1f} s, {mib:,.0f} MiB" for s, mib in by_size.values()))
    console = Console(width=120)
    console.print("whole processes, imports included; SQLite")
    console.print(table)
    if options.json:
        options.json.write_text(json.dumps(found, indent=1), encoding="utf-8")
