"""Contract-shaped trials, as records for the pure functions and as runs in a SQLite store."""

from __future__ import annotations

import itertools
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag

from dashboards.store.runs import typed
from tests.shared_folder import made_once, put_empty_store
from tests.tuning.workplace import Workplace

Record = dict[str, Any]
START = 1_700_000_000_000
counter = itertools.count()


def record(
    teachers: tuple[str, ...] = ("wrn_16_2",),
    students: tuple[str, ...] = ("resnet20",),
    method: str = "switokd",
    *,
    scores: dict[str, tuple[float, float]] | None = None,
    settings: str = "",
    temperature: float = 1.0,
    seed: int = 0,
    dataset: str = "digits",
    epochs: int = 4,
    status: str = "FINISHED",
    seconds: float = 10.0,
    share: float = 0.25,
    **extra: Any,
) -> Record:
    """One trial as `RunFrames.trials` gives it; `scores` are best and last top-1 by network."""
    models = {f"T{i}": name for i, name in enumerate(teachers, 1)}
    models |= {f"S{i}": name for i, name in enumerate(students, 1)}
    scores = scores or dict.fromkeys(models, (95.0, 95.0))
    pair = "+".join(students) if not teachers else "+".join(teachers) + ">" + "+".join(students)
    number = next(counter)
    identity = (pair, method, settings, temperature, seed, epochs, dataset)
    row: Record = {
        "run_id": f"run{number}",
        "run_name": f"{pair} {method} seed={seed}",
        "experiment": "fixture",
        "experiment_id": "1",
        "status": status,
        "start_time": START + 1000 * number,
        "end_time": None if status == "RUNNING" else START + 1000 * number + int(1000 * seconds),
        "trial_id": f"{zlib.crc32(repr(identity).encode()):08x}",
        "topology": f"{len(teachers)}T{len(students)}S" if teachers else "single",
        "pair": pair,
        "method": method,
        "variant": f"{method}({settings})" if settings else method,
        "git_commit": "a" * 40,
        "dataset": dataset,
        "temperature": f"{temperature:g}",
        "seed": str(seed),
        "params.dataset": dataset,
        "params.method": method,
        "params.temperature": f"{temperature:g}",
        "params.seed": str(seed),
        "params.recipe.epochs": str(epochs),
        "params.recipe.batch_size": "128",
        "params.recipe.holdout": "0.0",
    }
    if settings:
        key, _, value = settings.partition("=")
        row[f"params.method.{key}"] = value
    for name, model in models.items():
        row[f"params.{name}.model"] = model
        row[f"params.{name}.learning_rate"] = "0.1"
        row[f"metrics.best_val_top1/{name}"], row[f"metrics.last_val_top1/{name}"] = scores[name]
    for teacher, student in itertools.product(models, models):
        if teacher[0] == "T" and student[0] == "S":
            row[f"metrics.expert_share/{teacher}-{student}"] = share
    row["metrics.train_seconds"] = seconds
    return row | extra


def frame_of(records: list[Record]) -> pd.DataFrame:
    return typed(pd.DataFrame.from_records(records))


def link_timeline(steps: int, steps_per_epoch: int, link: str, seed: int) -> pd.DataFrame:
    """A gap that narrows under noise; distances chosen so that the switch's rule holds."""
    draw = np.random.default_rng(seed)
    step = np.arange(1, steps + 1)
    student = 1.6 * np.exp(-step / steps * 2) + 0.1 * draw.random(steps)
    teacher = 1.3 * np.exp(-step / steps * 2.5) + 0.1 * draw.random(steps)
    epsilon = np.exp(-teacher / (student + teacher))
    gap = np.abs(student - teacher) + 0.4 * draw.random(steps)
    threshold = student - epsilon * teacher
    name, _, other = link.partition("-")
    return pd.DataFrame(
        {
            "step": step,
            "epoch": (step - 1) // steps_per_epoch + 1,
            "teacher": name,
            "student": other,
            "gap": gap,
            "threshold": threshold,
            "epsilon": epsilon,
            "teacher_distance": teacher,
            "student_distance": student,
            "expert": (gap > threshold) & (teacher < student),
        }
    )


def thinned(timeline: pd.DataFrame, link: str, points: int) -> list[Metric]:
    """The link's timeline in windows, each point at its window's last step (contract)."""
    window = -(-len(timeline) // points)
    by = (timeline["step"] - 1) // window
    step = timeline.groupby(by)["step"].last()
    return [
        Metric(f"{name}/{link}", float(value), START + int(at), int(at))
        for name in ("gap", "threshold", "expert")
        for at, value in zip(step, timeline.groupby(by)[name].mean(), strict=True)
    ]


class StoreWriter:
    """Writes records as runs with `log_batch`, the way a sweep would leave them."""

    def __init__(self, folder: Path, experiment: str = "fixture") -> None:
        self.uri = put_empty_store(folder / "mlflow.db")
        self.client = MlflowClient(self.uri)
        self.experiment_id = self.client.create_experiment(
            experiment, artifact_location=(folder / "artifacts").as_uri()
        )
        sweep = self.client.create_run(self.experiment_id, run_name="sweep")
        self.client.set_terminated(sweep.info.run_id)

    def write(
        self,
        row: Record,
        *,
        steps: int = 40,
        points: int = 2000,
        epochs: int = 4,
        artifacts: bool = True,
    ) -> str:
        """One run with its timelines, epochs and artifacts; returns its id."""
        run = self.client.create_run(
            self.experiment_id, start_time=row["start_time"], run_name=row["run_name"]
        )
        run_id = str(run.info.run_id)
        networks = [key.split(".")[1] for key in row if key.endswith(".model")]
        links = [key.rpartition("/")[2] for key in row if key.startswith("metrics.expert_share/")]
        metrics = [
            Metric(key.removeprefix("metrics."), value, START, steps)
            for key, value in row.items()
            if key.startswith("metrics.") and row["status"] == "FINISHED"
        ]
        parts = []
        for link in links:
            # noise of its own for every run and link, the same in every session
            seed = zlib.crc32(f"{row['run_name']} {row['temperature']} {link}".encode())
            timeline = link_timeline(steps, max(1, steps // epochs), link, seed)
            parts.append(timeline)
            metrics += thinned(timeline, link, points)
        reached = epochs if row["status"] == "FINISHED" else max(1, epochs // 2)
        for network, epoch in itertools.product(networks, range(1, reached + 1)):
            last = row[f"metrics.last_val_top1/{network}"]
            value = last - 20 * (1 - epoch / epochs)
            at = START + 1000 * epoch
            metrics.append(Metric(f"val_top1/{network}", value, at, epoch))
            metrics.append(Metric(f"train_loss/{network}", 2.0 / epoch, at, epoch))
        tags = {f"switokd.{name}": row[name] for name in TAGS}
        tags |= {key.removeprefix("tags."): row[key] for key in row if key.startswith("tags.")}
        params = {key.removeprefix("params."): row[key] for key in row if key.startswith("params.")}
        self.client.log_batch(
            run_id,
            params=[Param(*item) for item in params.items()],
            tags=[RunTag(*item) for item in tags.items()],
        )
        for start in range(0, len(metrics), 1000):
            self.client.log_batch(run_id, metrics=metrics[start : start + 1000])
        if artifacts and parts:
            folder = Path(run.info.artifact_uri.removeprefix("file://"))
            folder.mkdir(parents=True, exist_ok=True)
            pd.concat(parts).to_parquet(folder / "timeline.parquet", index=False)
        if row["status"] != "RUNNING":
            self.client.set_terminated(run_id, row["status"], end_time=row["end_time"])
        return run_id


TAGS = ("trial_id", "topology", "pair", "method", "variant", "git_commit")


@pytest.fixture
def writer(tmp_path: Path) -> StoreWriter:
    return StoreWriter(tmp_path)


def quickstart_records() -> list[Record]:
    """What a small sweep leaves: a pair and a 2T1S cohort, three methods, two temperatures."""
    records = []
    for seed in (0, 1, 2):
        bump = 0.3 * seed
        for model, score in {"wrn_16_2": 97.5, "wrn_16_1": 96.5, "resnet20": 95.0}.items():
            scores = {"S1": (score + bump + 0.2, score + bump)}
            records.append(record((), (model,), "vanilla", scores=scores, seed=seed))
        for temperature, (method, gain) in itertools.product(
            (1.0, 2.0), {"dml": 0.5, "switokd": 1.2}.items()
        ):
            noise = 0.1 * ((seed * 7 + int(temperature)) % 3)
            student = 95.0 + bump + gain + noise - 0.3 * (temperature - 1)
            scores = {"T1": (97.9, 97.6 + noise), "S1": (student + 0.2, student)}
            common: Record = {
                "temperature": temperature,
                "seed": seed,
                "seconds": 10.0 if method == "dml" else 7.5,
                "share": 0.0 if method == "dml" else 0.3 + 0.01 * seed,
            }
            records.append(record(method=method, scores=scores, **common))
            both = {**scores, "T2": (97.0, 96.8 + noise)}
            records.append(record(("wrn_16_2", "wrn_16_1"), method=method, scores=both, **common))
    return records


@pytest.fixture(scope="session")
def quickstart() -> list[Record]:
    return quickstart_records()


@pytest.fixture(scope="session")
def quickstart_store() -> str:
    """Address of a store with the quickstart's trials, a failed and a running one."""
    return f"sqlite:///{made_once('quickstart', write_quickstart) / 'mlflow.db'}"


def write_quickstart(folder: Path) -> None:
    writer = StoreWriter(folder)
    for row in quickstart_records():
        writer.write(row)
    scores = {"T1": (50.0, 50.0), "S1": (50.0, 50.0)}
    now = int(1000 * time.time())
    failed = record(scores=scores, seed=7, status="FAILED")
    running = record(scores=scores, seed=8, status="RUNNING", start_time=now - 60_000)
    for row in (failed, running):
        writer.write(row, artifacts=False)


# the quickstart's first cohort with every method, two temperatures and two seeds, in seconds
SHORT = (
    "cohorts=[{teachers: [wrn_16_2], students: [resnet20]}]",
    "temperatures=[1, 2]",
    "seeds=[0, 1]",
    # 23 steps, of few images
    "recipe.train_images=368",
    "recipe.batch_size=16",
    "recipe.epochs=1",
    "recipe.milestones=[]",
)
EXPLAINED_PAIR = "wrn_16_2>resnet20"


@pytest.fixture(scope="session")
def swept(
    tmp_path_factory: pytest.TempPathFactory, shared_ray: dict[str, str]
) -> Iterator[Workplace]:
    """What a real quickstart sweep left; two methods of one pair and seed are explained."""
    workplace = Workplace(tmp_path_factory.mktemp("swept"), **shared_ray)
    experiments = Path(__file__).parents[2] / "experiments"
    workplace.start("sweep", str(experiments / "quickstart.yaml"), *SHORT).ended()
    runs = [explained_run(workplace, variant) for variant in ("dml", "switokd")]
    for process in [workplace.start("explain", run_id) for run_id in runs]:
        process.ended(timeout=120)
    yield workplace
    workplace.close()


def explained_run(workplace: Workplace, variant: str) -> str:
    """The run of a variant that is explained: seed 0 at temperature 1."""
    (run,) = [
        run
        for run in workplace.runs("quickstart")
        if run.data.tags.get("switokd.pair") == EXPLAINED_PAIR
        and run.data.tags["switokd.variant"] == variant
        and (run.data.params["seed"], float(run.data.params["temperature"])) == ("0", 1.0)
    ]
    return str(run.info.run_id)


@pytest.fixture(scope="session")
def swept_store(swept: Workplace) -> str:
    return f"sqlite:///{swept.folder / 'runs' / 'mlflow.db'}"
