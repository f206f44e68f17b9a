"""What was read of single runs, kept; what is missing is read together."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable

import pandas as pd

MOST_RUNS = 500


class KeptByRun:
    """Frames with a column `run_id`, by run and what was asked; the oldest give way."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: OrderedDict[Hashable, pd.DataFrame] = OrderedDict()

    def get(
        self,
        trials: pd.DataFrame,
        stamps: list[str],
        asked: tuple[str, ...],
        read: Callable[[pd.DataFrame], pd.DataFrame],
    ) -> pd.DataFrame:
        """The rows of all trials; `read` is called once for those that are missing.

        A trial's stamp changes when what is known of it may have.
        """
        keys = list(zip(trials["run_id"].astype(str), stamps, [asked] * len(trials), strict=True))
        with self._lock:
            known = {key: self._kept[key] for key in keys if key in self._kept}
        missing = [key not in known for key in keys]
        if any(missing) or not keys:
            found = read(trials[missing])
            known |= {
                key: found[found["run_id"] == key[0]]
                for key, is_missing in zip(keys, missing, strict=True)
                if is_missing
            }
            if not keys:
                return found
        with self._lock:
            for key in keys:
                self._kept[key] = known[key]
                self._kept.move_to_end(key)
            while len(self._kept) > MOST_RUNS:
                self._kept.popitem(last=False)
        parts = [known[key] for key in keys]
        return pd.concat([part for part in parts if len(part)] or parts[:1], ignore_index=True)
