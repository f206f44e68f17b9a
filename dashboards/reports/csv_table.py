"""The comparison as CSV, nothing left out."""

from __future__ import annotations

import pandas as pd


def comparison_csv(frame: pd.DataFrame) -> str:
    """The comparison in full, one line per network of a group; lists are joined by blanks."""
    flat = frame.drop(columns=["network_key", "cohort_key"])
    for column in ("seed_list", "run_ids", "experiment_ids"):
        flat[column] = [" ".join(map(str, values)) for values in flat[column]]
    return flat.to_csv(index=False)
