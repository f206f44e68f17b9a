"""Where the command line prints."""

from __future__ import annotations

import sys

from rich.console import Console

# wide enough for the tables where the output is a file; a terminal says itself
console = Console(width=None if sys.stdout.isatty() else 140)
