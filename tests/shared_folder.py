"""What the tests of one run make once, though several processes may run them."""

from __future__ import annotations

import functools
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

from switokd.files.lock import one_at_a_time

VARIABLE = "SWITOKD_TESTS_SHARED"


def open_shared_folder() -> Path:
    """Make the folder, for this process and those that it starts."""
    folder = Path(tempfile.mkdtemp(prefix="switokd-tests-"))
    os.environ[VARIABLE] = str(folder)
    return folder


def made_once(name: str, make: Callable[[Path], None]) -> Path:
    """The folder of that name, which `make` filled in whichever process came first."""
    folder = Path(os.environ[VARIABLE]) / name
    with one_at_a_time(folder.with_suffix(".lock")):
        if not (folder / ".whole").exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            make(folder)
            (folder / ".whole").touch()
    return folder


@contextmanager
def networks_at_rest() -> Iterator[None]:
    """No other test of this run makes or removes networks meanwhile, or needs them to rest."""
    folder = os.environ.get(VARIABLE)
    with one_at_a_time(Path(folder) / "networks.lock") if folder else nullcontext():
        yield


@functools.cache
def _empty_store() -> Path:
    def lay_out(folder: Path) -> None:
        # seconds to import, which tests without a store need not spend
        from mlflow import MlflowClient

        MlflowClient(f"sqlite:///{folder / 'mlflow.db'}").search_experiments()

    return made_once("empty_store", lay_out) / "mlflow.db"


def put_empty_store(path: Path) -> str:
    """A SQLite store as MLflow lays it out, in which it takes seconds; its address."""
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(_empty_store(), path)
    return f"sqlite:///{path}"
