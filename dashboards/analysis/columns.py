"""The columns of a frame of trials: MLflow's kinds as prefixes of the names that runs carry."""

from __future__ import annotations

import pandas as pd

from switokd import names

PARAMS, TAGS, METRICS = "params.", "tags.", "metrics."
# after the name of a data set whose trials saw a smoke run's drawn images
STAND_IN = " (stand-in)"


def metric_column(quantity: str, *subject: str) -> str:
    """`metrics.val_top1/S1`, `metrics.gap/T1-S1`."""
    return METRICS + names.metric(quantity, *subject)


def columns_of(frame: pd.DataFrame, prefix: str) -> list[str]:
    return [str(column) for column in frame.columns if str(column).startswith(prefix)]


def column_of(frame: pd.DataFrame, column: str) -> pd.Series:
    """The column, or one of NaN where no run has it."""
    if column in frame:
        return frame[column]
    return pd.Series(float("nan"), index=frame.index)
