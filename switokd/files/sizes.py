"""Bytes as people read them."""

from __future__ import annotations


def format_bytes(number: float) -> str:
    """`1.5 GB`: three digits and a unit of 1000s."""
    for unit in ("B", "kB", "MB", "GB"):
        if number < 1000:
            return f"{number:.3g} {unit}"
        number /= 1000
    return f"{number:.3g} TB"
