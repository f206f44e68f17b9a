"""What Ray must find in the environment; it reads some of it when it is first imported."""

from __future__ import annotations

import os
import secrets

DEFAULTS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    # Ray's future behaviour, which silences its warning: no GPU given hides none
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    # results go to MLflow; Tune need not write each into files of its own
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
}


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
