"""The published results, beside which measured ones are shown (paper, Tables 4 and 7)."""

from __future__ import annotations

from functools import cache
from importlib.resources import files

import pandas as pd

COHORT = ["dataset", "pair", "topology"]
NETWORK = [*COHORT, "model", "role", "method"]


@cache
def paper_results() -> pd.DataFrame:
    """Top-1 mean and standard deviation in percent, one row per table, pair, network, method."""
    with files("dashboards").joinpath("paper/results.csv").open(encoding="utf-8") as source:
        table = pd.read_csv(source)
    roles = table["role"].map({"S": "student", "T": "teacher"})
    table = table.assign(role=roles).rename(columns={"network": "model"})
    return table.rename(columns={"top1_mean": "published_mean", "top1_std": "published_std"})


def with_published(frame: pd.DataFrame) -> pd.DataFrame:
    """The comparison with columns published_mean, published_std, published_difference (percent).

    The paper's methods ran with the settings that are our defaults, at temperature 1: other
    variants take no value. The paper reports the best epoch, so the difference is taken from
    `best_mean`. A vanilla row, which belongs to no pair, takes its network's value from the pairs
    that the comparison holds; where these disagree it takes none.
    """
    table = paper_results()
    columns = ["published_mean", "published_std"]
    published = frame[NETWORK].merge(table, on=NETWORK, how="left", validate="m:1")
    published = published[columns].set_index(frame.index)
    alone = (
        table[table["method"] == "vanilla"]
        .merge(frame[COHORT].drop_duplicates(), on=COHORT)
        .drop_duplicates(["dataset", "model", "published_mean"])
        .drop_duplicates(["dataset", "model"], keep=False)
    )
    vanilla = frame[["dataset", "model"]].merge(alone, on=["dataset", "model"], how="left")
    is_vanilla = frame["method"] == "vanilla"
    published = published.mask(is_vanilla, vanilla[columns].set_index(frame.index))
    is_papers = (frame["variant"] == frame["method"]) & (frame["temperature"] == 1)
    published = published.where(is_papers)
    return frame.assign(
        **{column: published[column] for column in columns},
        published_difference=frame["best_mean"] - published["published_mean"],
    )
