"""What a trial is called where readers see it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from dashboards.analysis.columns import STAND_IN
from switokd.methods.settings import SETTINGS


def trial_name(row: pd.Series | Mapping[str, Any], tau: str = "τ") -> str:
    """Variant, temperature (as `tau`) where the method has one, and further axes."""
    parts = [row["variant"]]
    if row["topology"] != "single" and tells_temperature(row):
        parts.append(f"{tau}={row['temperature']:g}")
    return " ".join([*parts, row.get("axes", "")]).strip()


def tells_temperature(row: pd.Series | Mapping[str, Any]) -> bool:
    """Whether a trial is called by its temperature too.

    Of a user's method nothing here says whether it has one; without one it is 1.
    """
    settings = SETTINGS.get(row["method"])
    return settings.uses_temperature if settings else row["temperature"] != 1


def datasets_of(rows: pd.DataFrame) -> list[str]:
    """The data sets, that with the most rows first; a smoke run's come last."""
    counts = rows["dataset"].value_counts()
    return sorted(counts.index, key=lambda name: (name.endswith(STAND_IN), -counts[name], name))


def called_in(pair: str) -> dict[str, str]:
    """What the networks of a pair are called, by T1, S1, ...: their short names where there are.

    A pair is `wrn_16_10+wrn_16_2>mobilenet`, or the name of a network that is alone.
    """
    teachers, _, students = pair.rpartition(">")
    sides = {"T": teachers.split("+") if teachers else [], "S": students.split("+")}
    return {
        f"{letter}{number}": name
        for letter, side in sides.items()
        for number, name in enumerate(side, start=1)
    }
