"""A SQLite store made by several at once, half made, full, read-only, and killed in a write."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from mlflow import MlflowClient

from switokd.tracking import tracker as tracking
from switokd.tracking.address import StoreError
from switokd.tracking.client import newest_revision
from switokd.tracking.retry import TrackingError
from switokd.tracking.sqlite_file import is_whole, open_read_only
from switokd.tracking.store import TrackingStore
from tests.machine import lacking

pytestmark = pytest.mark.slow

OPEN = """
import sys
from switokd.tracking.tracker import open_experiment
print("ready", flush=True)
open_experiment(sys.argv[1], f"sqlite:///{sys.argv[2]}", sys.argv[3])
"""
# a transaction larger than the cache: its pages are in the file before it ends
WRITE = """
import sqlite3, sys, time
store = sqlite3.connect(sys.argv[1])
store.execute("pragma cache_size=1")
store.execute("update params set value = value || 'x'")
print("within", flush=True)
time.sleep(60)
"""


def opener(name: str, path: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", OPEN, name, str(path), str(path.parent)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a run of 200 params, to be copied."""
    path = tmp_path_factory.mktemp("made") / "mlflow.db"
    tracked = tracking.open_experiment("made", f"sqlite:///{path}", path.parent)
    client = MlflowClient(tracked.uri)
    run_id = client.create_run(tracked.experiment_id).info.run_id
    for key in range(200):
        client.log_param(run_id, f"key{key}", "v" * 400)
    return path


@pytest.fixture
def store(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(made, tmp_path / "mlflow.db"))


@pytest.fixture
def empty_store(made: Path, tmp_path: Path) -> Path:
    """Whole, and nothing in it but what MLflow puts there."""
    path = Path(shutil.copy(made, tmp_path / "mlflow.db"))
    with closing(sqlite3.connect(path)) as connection:
        for table in ("params", "latest_metrics", "tags", "runs"):
            connection.execute(f"delete from {table}")
        connection.execute("delete from experiments where name != 'Default'")
        connection.commit()
    return path


def test_several_make_one_store_at_once(tmp_path: Path) -> None:
    path = tmp_path / "runs" / "mlflow.db"
    makers = [opener(f"experiment-{number}", path) for number in range(3)]
    for maker in makers:
        _, errors = maker.communicate(timeout=90)
        assert (maker.returncode, errors) == (0, "")
    experiments = TrackingStore(f"sqlite:///{path}").experiments()
    assert set(experiments.values()) == {"Default", *(f"experiment-{n}" for n in range(3))}
    assert not list(path.parent.glob("*half-made*"))


def test_a_maker_that_is_killed_leaves_no_store_or_a_whole_one(tmp_path: Path) -> None:
    path, hand = tmp_path / "mlflow.db", random.Random(0)
    for _ in range(3):
        maker = opener("killed", path)
        assert maker.stdout is not None
        maker.stdout.readline()
        new = path.with_name("mlflow.db.new")
        while not new.exists() and maker.poll() is None:
            time.sleep(0.01)
        time.sleep(hand.uniform(0, 1))
        maker.kill()
        maker.wait()
        assert not path.exists() or is_whole(path, newest_revision)
    assert tracking.open_experiment("killed", f"sqlite:///{path}", tmp_path).experiment_id
    assert not new.exists()


@pytest.mark.parametrize(
    "damage",
    [
        "create table _alembic_tmp_runs (run_uuid text)",
        "drop table alembic_version",
        "update alembic_version set version_num = '451aebb31d03'",
    ],
)
def test_a_half_made_store_is_set_aside_and_made_anew(
    empty_store: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert is_whole(empty_store, newest_revision)
    with closing(sqlite3.connect(empty_store)) as connection:
        connection.execute(damage)
        connection.commit()
    before = empty_store.read_bytes()
    os.utime(empty_store, (1, 1))
    tracking.open_experiment("anew", f"sqlite:///{empty_store}", empty_store.parent)
    assert is_whole(empty_store, newest_revision)
    kept = empty_store.with_name("mlflow.db.half-made-1")
    assert kept.read_bytes() == before
    assert f"{empty_store} was half made and held no run: it is {kept.name} now" in caplog.text


def test_a_store_with_a_run_is_never_set_aside(store: Path) -> None:
    with closing(sqlite3.connect(store)) as connection:
        connection.execute("create table _alembic_tmp_runs (run_uuid text)")
        connection.execute("update alembic_version set version_num = '451aebb31d03'")
        connection.commit()
    with pytest.raises(TrackingError, match="Detected out-of-date database schema"):
        tracking.open_experiment("made", f"sqlite:///{store}", store.parent)
    assert not list(store.parent.glob("*half-made*"))


def test_a_whole_store_is_neither_made_nor_locked(store: Path) -> None:
    tracking.open_experiment("made", f"sqlite:///{store}", store.parent)
    assert not store.with_name("mlflow.db.lock").exists()


def test_a_transaction_cut_off_by_a_kill_is_undone_by_who_reads(store: Path) -> None:
    uri = f"sqlite:///{store}"
    for _ in range(50):
        writer = subprocess.Popen([sys.executable, "-c", WRITE, store], stdout=subprocess.PIPE)
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"within\n"
        writer.kill()
        writer.wait()
        assert store.with_name("mlflow.db-journal").stat().st_size
        with closing(open_read_only(store)) as connection:
            longest = connection.execute("select max(length(value)) from params").fetchone()
        assert longest == (400,)
    assert "made" in TrackingStore(uri).experiments().values()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(disk)]
    if os.geteuid() or subprocess.run(mount, capture_output=True, check=False).returncode:
        lacking("the right to mount a small tmpfs")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


@pytest.mark.parametrize("exists", [True, False])
def test_a_full_disk_is_told_in_one_message(
    made: Path, small_disk: Path, exists: bool, capfd: pytest.CaptureFixture[str]
) -> None:
    path = small_disk / "mlflow.db"
    if exists:
        shutil.copy(made, path)
    with contextlib.suppress(OSError), (small_disk / "filler").open("wb", 0) as file:
        while True:
            file.write(b"0" * 4096)
    with pytest.raises(StoreError) as caught:
        tracking.open_experiment("new", f"sqlite:///{path}", small_disk)
    message = str(caught.value)
    if exists:
        assert message == f"sqlite:///{path} cannot be written: database or disk is full"
    else:
        assert message.startswith(f"the tracking store sqlite:///{path} cannot be used: ")
        assert "database or disk is full (" in message
    # neither MLflow nor SQLAlchemy has said anything
    assert capfd.readouterr() == ("", "")


def test_a_read_only_store_is_told_in_one_message(small_disk: Path, made: Path) -> None:
    path = Path(shutil.copy(made, small_disk / "mlflow.db"))
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(StoreError) as caught:
        tracking.open_experiment("made", f"sqlite:///{path}", path.parent)
    assert str(caught.value) == (
        f"sqlite:///{path} cannot be written: attempt to write a readonly database"
    )
    assert TrackingStore(f"sqlite:///{path}").experiment("made") is not None
