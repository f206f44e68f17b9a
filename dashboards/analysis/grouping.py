"""Which trials belong together: one group per resolved trial less its seed.

Takes the frame of `store.runs.RunFrames.trials`; gives finished trials with their group, and their
networks.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

import numpy as np
import pandas as pd

from dashboards.analysis.columns import PARAMS, column_of, columns_of, metric_column
from dashboards.analysis.labels import called_in
from dashboards.analysis.savings import multiply_adds_saved, paused_shares
from switokd import names

NETWORK_PARAM = re.compile(r"params\.([TS]\d+)\.(\w+)")
# where the best epoch was not chosen by what it is measured on: there it is the fair one
CHOSEN_ON_HOLDOUT = "test set, best epoch chosen on the hold-out"
# of a trained network, measured where its trial ran
COST_OF_AN_IMAGE = (names.PARAMETERS, names.MULTIPLY_ADDS, names.MILLISECONDS_PER_IMAGE)
NETWORK_COLUMNS = [
    *(
        "run_id",
        "experiment_id",
        "trial_id",
        "group",
        "axes",
        "dataset",
        "topology",
        "pair",
        "method",
        "variant",
    ),
    *("temperature", "seed", "network", "role", "model", "network_key", "cohort_key"),
    *("measured_on", "compared_epoch", "best", "last", "compared"),
    *("train_seconds", "teacher_seconds", "teacher_missing"),
    *("expert_share", "updates_saved", "multiply_adds_saved", "last_gap", *COST_OF_AN_IMAGE),
]


def finished(trials: pd.DataFrame) -> pd.DataFrame:
    """The finished trials, each once: of equal trials in several experiments the newest counts."""
    done = trials[trials["status"] == "FINISHED"].sort_values("end_time", kind="stable")
    return done.drop_duplicates("trial_id", keep="last").sort_index()


def grouped(trials: pd.DataFrame) -> pd.DataFrame:
    """The trials with columns `group` (from 0) and `axes`, what else was swept: `recipe.epochs=2`.

    A parameter is such an axis where it takes several values in one data set, a network's own
    setting (`S1.learning_rate`) where it does in one pair.
    """
    parameters = [column for column in columns_of(trials, PARAMS) if column != "params.seed"]
    known = trials[parameters].fillna("")
    group = known.groupby(parameters, sort=False).ngroup() if parameters else 0
    axes = pd.Series("", index=trials.index)
    for column in parameters:
        name = column.removeprefix(PARAMS)
        if name in ("dataset", "method", "temperature") or name.startswith("method."):
            continue
        network = NETWORK_PARAM.fullmatch(column)
        if network and network.group(2) == "model":
            continue
        scope = ["dataset", "topology", "pair"] if network else ["dataset"]
        varies = known[column].groupby([trials[key] for key in scope]).transform("nunique") > 1
        axes += (f"{name}=" + known[column] + " ").where(varies, "")
    return trials.assign(group=group, axes=axes.str.strip())


def networks(trials: pd.DataFrame) -> pd.DataFrame:
    """The networks that finished trials trained, one row each, with their group: NETWORK_COLUMNS.

    A network that only teaches has learned nothing there and has no row. `train_seconds` are the
    trial's own and those of the trials that trained its teachers before, `teacher_seconds`, whole,
    also where several students share a teacher; `teacher_missing` says that their time is not
    known.
    `best` and `last` are top-1 in percent: on the test set where it was scored, with the weights
    of the best and the last epoch; `measured_on` says how the best epoch was chosen, and
    `compared_epoch` which of the two is compared, whose score `compared` is. `updates_saved` is the
    share of the teachers' updates that were skipped, of a student's row its teachers' mean;
    `multiply_adds_saved` the share of the trial's multiply-adds that this saved; `last_gap` is the
    gap of the last window of steps, a mean over the network's links. Networks with equal
    `network_key` had the same data, model, optimizer settings and recipe; trials with equal
    `cohort_key` differ in the method and its temperature at most.
    """
    trials = grouped(finished(trials))
    if trials.empty:
        return pd.DataFrame(columns=NETWORK_COLUMNS)
    parameters = columns_of(trials, PARAMS)
    shared = [
        column
        for column in parameters
        if not NETWORK_PARAM.fullmatch(column)
        and not column.startswith("params.method.")
        and column not in ("params.method", "params.seed", "params.temperature")
    ]
    recipe = joined(trials, shared)
    found = map(NETWORK_PARAM.fullmatch, parameters)
    network_names = sorted({match.group(1) for match in found if match})
    settings = {
        name: joined(trials, columns_of(trials, f"params.{name}."), f"params.{name}.")
        for name in network_names
    }
    cohort = recipe.copy()
    for name, own in settings.items():
        cohort += f"|{name}:" + own
    shares = columns_of(trials, metric_column(names.EXPERT_SHARE, ""))
    last_gaps = columns_of(trials, metric_column(names.GAP, ""))
    own_seconds = column_of(trials, metric_column(names.TRAIN_SECONDS))
    teacher_seconds = seconds_of_teachers(trials, own_seconds)
    paused = paused_shares(trials, [name for name in network_names if name.startswith("T")])
    adds_saved = multiply_adds_saved(paused, *costs_and_learners(trials, network_names))
    parts = []
    for name in network_names:
        rows = trials[trials[f"params.{name}.model"].notna() & ~only_teaches(trials, name)]
        if rows.empty:
            continue
        tested, scores = scores_of(rows, name)
        fair = tested == CHOSEN_ON_HOLDOUT
        links = columns_with(shares, name)
        gaps = columns_with(last_gaps, name)
        share = rows[links].mean(axis=1) if links else pd.Series(math.nan, index=rows.index)
        part = rows.assign(
            network=name,
            role="teacher" if name.startswith("T") else "student",
            model=[called_in(pair)[name] for pair in rows["pair"]],
            network_key=(recipe + "|" + settings[name])[rows.index],
            cohort_key=cohort[rows.index],
            measured_on=tested,
            compared_epoch=np.where(fair, "best", "last"),
            compared=scores["best"].where(fair, scores["last"]),
            best=scores["best"],
            last=scores["last"],
            train_seconds=own_seconds[rows.index] + teacher_seconds[rows.index].fillna(0),
            teacher_seconds=teacher_seconds[rows.index],
            teacher_missing=rows["teacher_trials"].fillna("").ne("")
            & teacher_seconds[rows.index].isna(),
            expert_share=share,
            updates_saved=paused[name] if name in paused else paused.mean(axis=1),
            multiply_adds_saved=adds_saved,
            last_gap=rows[gaps].mean(axis=1) if gaps else math.nan,
            **{cost: column_of(rows, metric_column(cost, name)) for cost in COST_OF_AN_IMAGE},
        )
        parts.append(part[NETWORK_COLUMNS])
    return pd.concat(parts, ignore_index=True)


def costs_and_learners(
    trials: pd.DataFrame, networks: Sequence[str]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Multiply-adds of each network, and whether it is trained; NaN where a trial has none such."""
    costs = {n: column_of(trials, metric_column(names.MULTIPLY_ADDS, n)) for n in networks}
    learns = {
        n: (~only_teaches(trials, n)).astype(float).where(trials[f"params.{n}.model"].notna())
        for n in networks
    }
    return pd.DataFrame(costs).astype(float), pd.DataFrame(learns)


def only_teaches(trials: pd.DataFrame, network: str) -> pd.Series:
    """Whether a network was trained before, and not in its trial."""
    frozen = column_of(trials, f"{PARAMS}{network}.frozen").eq("true")
    return frozen | trials["teacher_trials"].fillna("").str.contains(rf"\b{network}=")


def seconds_of_teachers(trials: pd.DataFrame, seconds: pd.Series) -> pd.Series:
    """The training seconds of the trials that trained a trial's teachers; NaN where there are none
    or where one of them is not among the trials."""
    known = dict(zip(trials["trial_id"], seconds, strict=True))
    found = []
    for taught in trials["teacher_trials"].fillna(""):
        ids = [each.partition("=")[2] for each in taught.split()]
        found.append(sum(known.get(key, math.nan) for key in ids) if ids else math.nan)
    return pd.Series(found, index=trials.index, dtype=float)


def columns_with(columns: list[str], network: str) -> list[str]:
    """Those of the columns whose link (`metrics.gap/T1-S1`) has the network at an end."""
    return [column for column in columns if network in column.rpartition("/")[2].split("-")]


def scores_of(rows: pd.DataFrame, network: str) -> tuple[pd.Series, pd.DataFrame]:
    """How the scores were taken, and top-1 in percent of the best and the last epoch."""
    test_last = column_of(rows, metric_column(names.TEST_TOP1, network))
    test_best = column_of(rows, metric_column(names.TEST_TOP1_BEST, network))
    tested = test_last.notna()
    best = test_best.where(tested, column_of(rows, metric_column(names.BEST_VAL_TOP1, network)))
    last = test_last.where(tested, column_of(rows, metric_column(names.LAST_VAL_TOP1, network)))
    held_out = pd.to_numeric(column_of(rows, "params.recipe.holdout")).fillna(0) > 0
    measured_on = pd.Series("test set", index=rows.index)
    measured_on = measured_on.mask(held_out, "hold-out").mask(tested, CHOSEN_ON_HOLDOUT)
    return measured_on, pd.DataFrame({"best": best, "last": last})


def joined(trials: pd.DataFrame, columns: list[str], prefix: str = PARAMS) -> pd.Series:
    """One text per trial of what the columns hold; equal texts mean equal settings."""
    text = pd.Series("", index=trials.index)
    for column in sorted(columns):
        text += column.removeprefix(prefix) + "=" + trials[column].fillna("") + ";"
    return text
