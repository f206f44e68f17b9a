"""What Ray must find in the environment; it reads some of it when it is first imported."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable
from typing import Any

from switokd.user_modules import to_ship

DEFAULTS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    # Ray's future behaviour, which silences its warning: no GPU given hides none
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    # results go to MLflow; Tune need not write each into files of its own
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    # nor save all trials' states again and again: who goes on finds each by its id
    "TUNE_GLOBAL_CHECKPOINT_S": "3600",
    # a worker reports in mid-epoch too, where there is no value to judge by yet
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    # a user's module is taken along whole, as its hash has it
    "RAY_RUNTIME_ENV_IGNORE_GITIGNORE": "1",
}
# how the driver reaches the tracking store and its artifacts, passwords included
STORE_ACCESS = ("MLFLOW_TRACKING_", "MLFLOW_S3_", "AWS_", "PG")
# what a worker needs of the driver's environment, also on another machine
FOR_WORKERS = ("SWITOKD_DATA",)


def prepare() -> None:
    """Set what is not set yet.

    Ray listens beyond loopback whatever it is told, so that a Ray of our own answers only those
    who have its token, made anew for each sweep. A cluster's address comes with its own token.
    """
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)
    if not os.environ.get("RAY_ADDRESS"):
        os.environ.setdefault("RAY_AUTH_MODE", "token")
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))


def store_access() -> dict[str, Any]:
    """Ray's runtime environment that lets workers on other machines reach the store as we do.

    A function that each worker process runs as it starts: Tune writes a trial's configuration to
    disk, and Ray writes a runtime environment's `env_vars` to its logs.
    """
    ours = {name: value for name, value in os.environ.items() if name.startswith(STORE_ACCESS)}

    def set_environment() -> None:
        os.environ.update(ours)

    return {"worker_process_setup_hook": set_environment} if ours else {}


def brought_along(modules: Iterable[str]) -> dict[str, Any]:
    """Ray's runtime environment that takes the user's modules to workers on other machines.

    Raises SpecError for one that is not found.
    """
    places = sorted({str(place) for module in modules for place in to_ship(module)})
    return {"py_modules": places} if places else {}


def for_workers() -> dict[str, str]:
    """The variables that a trial's configuration carries to its worker."""
    return {name: os.environ[name] for name in FOR_WORKERS if name in os.environ}
