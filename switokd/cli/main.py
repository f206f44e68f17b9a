"""The command line: parse, call, print. What a user can mend ends with one message and status 2."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import NoReturn

import typer

from switokd.cli import compare, inspect_networks, pack_data, prune, run_trials
from switokd.cli.arguments import INTERRUPTED, WRONG_INPUT, complain
from switokd.validation import SpecError

app = typer.Typer(
    help="Run, track and compare switchable online knowledge distillation.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for command in (
    run_trials.sweep,
    run_trials.train,
    compare.compare,
    inspect_networks.evaluate,
    inspect_networks.explain,
    inspect_networks.export,
    inspect_networks.models,
    prune.prune,
):
    app.command()(command)
app.add_typer(pack_data.app, name="data")


def main(arguments: list[str] | None = None) -> NoReturn:
    """The entry point: exceptions of ours become messages and statuses."""
    os.environ["SWITOKD_DATA"] = str(Path(os.environ.get("SWITOKD_DATA") or "data").absolute())
    try:
        # not standalone, it returns the status of a typer.Exit instead of leaving with it
        status = app(arguments, standalone_mode=False)
    except (KeyboardInterrupt, typer.Abort):
        status = INTERRUPTED
    except Exception as error:
        if hasattr(error, "show") and hasattr(error, "exit_code"):
            error.show()
            sys.exit(error.exit_code)
        if isinstance(error, SpecError):
            _stop(str(error), WRONG_INPUT)
        raise
    if status == INTERRUPTED:
        _stop("interrupted", INTERRUPTED)
    sys.exit(status if isinstance(status, int) else 0)


def _stop(message: str, status: int) -> NoReturn:
    complain(f"switokd: {message}")
    sys.exit(status)
