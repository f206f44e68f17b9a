"""What `switokd explain` left in runs: the arrays to draw side by side, the numbers to compare."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dashboards.analysis.grouping import networks
from dashboards.analysis.labels import trial_name
from switokd import names

# of two unrelated maps: 0.2 * 0.2 of the pixels lie in both peaks, 0.36 in either
UNRELATED_OVERLAP = 0.11

AGREEMENT_COLUMNS = {
    "method": "method",
    "link": "link",
    "seeds": "seeds",
    "overlap": "peak overlap",
    "overlap_std": "overlap ±",
    "correlation": "correlation",
    "correlation_std": "correlation ±",
    "images": "test images",
    "flat": "flat maps",
}

QUANTITIES = ("peak_overlap", "correlation", "images", "flat_images")

Pictures = NDArray[np.float32]


class HeatMaps(NamedTuple):
    """Images (N, H, W) or (N, H, W, 3), their classes, and maps (N, H, W) by network; 0 to 1.

    predicted: by network the classes that it takes the images for; older runs do not say them.
    """

    images: Pictures
    classes: list[str]
    maps: dict[str, Pictures]
    predicted: dict[str, list[str]]

    def of(self, network: str) -> NetworkMaps:
        """What there is of a network."""
        return NetworkMaps(self.maps[network], self.predicted.get(network, []))


class NetworkMaps(NamedTuple):
    """A network's maps (N, H, W), and the classes it predicts, none where that is not known."""

    maps: Pictures
    predicted: list[str]

    def first(self, count: int) -> NetworkMaps:
        """Those of the first images."""
        return NetworkMaps(self.maps[:count], self.predicted[:count])


class Source(NamedTuple):
    """The network of a run that stands in a row under a name of the cohort's."""

    network: str
    run_id: str
    stored_as: str


def read_heat_maps(content: bytes) -> HeatMaps:
    """The arrays that `switokd.inspection.explain.Explanation.arrays` wrote."""
    with np.load(io.BytesIO(content), allow_pickle=False) as stored:
        arrays = {name: stored[name] for name in stored.files}
    classes = [str(name) for name in arrays.pop("classes")]
    said = [name for name in arrays if name.startswith(names.PREDICTED)]
    predicted = {
        name.removeprefix(names.PREDICTED): list(map(str, arrays.pop(name))) for name in said
    }
    shares = {name: (array / 255).astype(np.float32) for name, array in arrays.items()}
    return HeatMaps(shares.pop("images"), classes, shares, predicted)


def method_rows(trials: pd.DataFrame, pair: str, seed: int) -> dict[str, list[Source]]:
    """The rows of a pair's figure by name: the same networks alone, then every method.

    `trials` are finished ones of one data set. The row `vanilla` joins, by data, model, optimizer
    settings and recipe, the runs that trained the cohort's networks alone with the same seed.
    """
    known = networks(trials)
    known = known[known["seed"] == seed]
    cohorts = known[known["pair"] == pair]
    alone = known[known["topology"] == "single"].drop_duplicates("network_key")
    alone_runs = dict(zip(alone["network_key"], alone["run_id"], strict=True))
    several = cohorts["axes"].nunique() > 1
    rows: dict[str, list[Source]] = {}
    order = ["axes", "method", "variant", "temperature", "network"]
    for _, network in cohorts.sort_values(order, kind="stable").iterrows():
        name, key = str(network["network"]), network["network_key"]
        if network["topology"] != "single" and key in alone_runs:
            vanilla = f"vanilla {network['axes']}" if several else "vanilla"
            source = Source(name, alone_runs[key], "S1")
            if source not in rows.setdefault(vanilla, []):
                rows[vanilla].append(source)
        own = rows.setdefault(trial_name(network), [])
        own.append(Source(name, str(network["run_id"]), name))
    # teachers first, as the pair's name has them
    return {
        name: sorted(sources, key=lambda source: (source.network[0] != "T", source.network))
        for name, sources in rows.items()
    }


def row_maps(
    rows: Mapping[str, Iterable[Source]], explained: Mapping[str, HeatMaps]
) -> tuple[HeatMaps | None, dict[str, dict[str, NetworkMaps]], list[str]]:
    """The images all rows share, each row's maps of them by network, and the rows left out.

    Rows without any explained network are not there; rows whose runs show other images than the
    first (another image size) are left out.
    """
    first: HeatMaps | None = None
    drawn: dict[str, dict[str, NetworkMaps]] = {}
    others = []
    for name, sources in rows.items():
        for source in sources:
            found = explained.get(source.run_id)
            if found is None or source.stored_as not in found.maps:
                continue
            first = first or found
            if not same_images(first, found):
                others.append(name)
                break
            drawn.setdefault(name, {})[source.network] = found.of(source.stored_as)
            if len(found.images) < len(first.images):
                first = found
    if first is None:
        return None, {}, []
    count = len(first.images)
    cut = {name: {key: own.first(count) for key, own in row.items()} for name, row in drawn.items()}
    return first, cut, others


def same_images(one: HeatMaps, other: HeatMaps) -> bool:
    """Whether the shorter's images are the longer's first."""
    count = min(len(one.images), len(other.images))
    return np.array_equal(one.images[:count], other.images[:count])


def read_numbers(content: bytes) -> dict[str, float]:
    """What `names.AGREEMENT_FILE` holds, numbers only."""
    found = json.loads(content)
    if not isinstance(found, dict):
        return {}
    return {key: float(value) for key, value in found.items() if isinstance(value, int | float)}


def agreement_table(trials: pd.DataFrame, numbers: Mapping[str, dict[str, float]]) -> pd.DataFrame:
    """Agreement over the test set per method and link, mean and deviation over the explained seeds.

    `trials` are grouped ones of a pair, `numbers` those of the explained ones by run id. Peak
    overlap is from 0 to 1, correlation from -1 to 1; test images and flat maps are means per run.
    """
    values = [
        (run_id, *key.partition(" ")[::2], value)
        for run_id, own in numbers.items()
        for key, value in own.items()
    ]
    long = pd.DataFrame.from_records(values, columns=["run_id", "quantity", "link", "value"])
    wide = long.pivot(index=["run_id", "link"], columns="quantity", values="value")
    wide = wide.reindex(columns=list(QUANTITIES)).reset_index()
    order = ["axes", "method", "variant", "temperature"]
    trials = trials.sort_values(order, kind="stable")
    named = trials.assign(method=[trial_name(trial) for _, trial in trials.iterrows()])
    joined = named[["run_id", "group", "method"]].merge(wide, on="run_id")
    table = joined.groupby(["group", "link"], sort=False, as_index=False).agg(
        method=("method", "first"),
        seeds=("run_id", "size"),
        overlap=("peak_overlap", "mean"),
        overlap_std=("peak_overlap", "std"),
        correlation=("correlation", "mean"),
        correlation_std=("correlation", "std"),
        images=("images", "mean"),
        flat=("flat_images", "mean"),
    )
    return table[list(AGREEMENT_COLUMNS)].rename(columns=AGREEMENT_COLUMNS)
