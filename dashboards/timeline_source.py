"""Where a trial's timeline is read from: the complete file, or the windows in the store."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from dashboards.runs import MissingArtifactError, Store
from dashboards.timelines import QUANTITIES, step_points, window_points

WINDOWS = 2000


def link_points(store: Store, trial: pd.Series, links: Sequence[str]) -> pd.DataFrame:
    """At most 2,000 points of every link of one trial (see `timelines`).

    A finished trial's file is read in a fraction of the time that the store needs for as many
    points; from a server it is the store's windows that are smaller.
    """
    run_id = str(trial["run_id"])
    if trial["status"] == "FINISHED" and not store.is_server:
        try:
            complete = store.timeline(run_id)
        except MissingArtifactError:
            pass
        else:
            last = int(complete["step"].max())
            parts = [step_points(complete, run_id, link, 1, last, WINDOWS) for link in links]
            return pd.concat(parts, ignore_index=True)
    keys = [f"{quantity}/{link}" for link in links for quantity in QUANTITIES]
    return window_points(store.histories([run_id], keys))
