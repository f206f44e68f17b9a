"""What a trial is called where readers see it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd


def trial_name(row: pd.Series | Mapping[str, Any], tau: str = "τ") -> str:
    """Variant, temperature (as `tau`) where the row has a cohort, and further axes."""
    parts = [row["variant"]]
    if row["topology"] != "single":
        parts.append(f"{tau}={row['temperature']:g}")
    return " ".join([*parts, row.get("axes", "")]).strip()
