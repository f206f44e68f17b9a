"""Kill a sweep's processes at random until so many are dead, let it end, and compare it with peace.

    python -m tests.chaos [--kills 30] [--seed 1] [--store sqlite|server|both] [--no-tearing]

Each trial must then have one run, one value a step, and the weights, the timeline and the points of
a process that nobody disturbed. Then each kind of file under `runs/` is torn. Takes about half an
hour; prints what was done as JSON.
"""

from __future__ import annotations

import argparse
import atexit
import json
import shutil
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tests.chaos.killing import Killer
from tests.chaos.tearing import tear
from tests.processes import await_
from tests.shared_folder import open_shared_folder
from tests.tuning.mlflow_server import Server
from tests.tuning.test_survival import assert_as_if_undisturbed
from tests.tuning.workplace import Workplace, small_experiment

STORES = ("sqlite", "server")
# a sweep that is left in peace may still find that its Ray or its store has just died
CALLS_TO_END = 3


def experiment(seeds: int) -> dict[str, Any]:
    return small_experiment(
        name="chaos",
        methods=["dml", "switokd", "kd"],
        seeds=list(range(seeds)),
        recipe={"epochs": 12, "train_images": None},
        resources={"checkpoint_seconds": 0.5},
    )


def disturbed(folder: Path, store: str, kills: int, seed: int) -> dict[str, Any]:
    """A sweep under fire, and then as if it had not been. Raises AssertionError."""
    server = None
    environment = {}
    if store == "server":
        server = Server(folder)
        server.start()
        environment["MLFLOW_TRACKING_URI"] = server.uri
    workplace = Workplace(folder, **environment)
    seeds = 3
    workplace.write(experiment(seeds))
    killer = Killer(workplace, seed, server)

    def more() -> None:
        nonlocal seeds
        seeds += 1
        workplace.write(experiment(seeds))

    try:
        starts = killer.disturb(kills, more)
        output = ""
        for _ in range(CALLS_TO_END):
            status, output = workplace.run("sweep", workplace.file.name)
            if status == 0:
                break
        assert status == 0, output
        trials = workplace.write(experiment(seeds)).trials
        runs = workplace.trial_runs("chaos")
        assert set(runs) == {trial.trial_id for trial in trials}
        for trial in trials:
            if trial.topology != "single":
                assert_as_if_undisturbed(workplace, trial)
            else:
                # a network alone has no timeline, and must be there for whom it teaches
                workplace.train_alone(trial)
                workplace.series(runs[trial.trial_id])
    finally:
        if server is not None:
            server.stop()
    return {
        "store": store,
        "seed": seed,
        "killed": dict(killer.killed),
        "kills": killer.killed.total(),
        "starts": starts,
        "trials": len(trials),
    }


def torn(folder: Path) -> list[dict[str, Any]]:
    """What came of each torn file of a sweep that was stopped half way."""
    workplace = Workplace(folder)
    content = experiment(1) | {"methods": ["switokd", "vanilla"]}
    trials = workplace.write(content).trials
    sweep = workplace.start("sweep", workplace.file.name)
    last = trials[-1]
    await_(lambda: workplace.checkpoints(last), of=sweep)
    sweep.kill()
    sweep.wait()
    template = folder / "template"
    await_(lambda: not _in_use(workplace.folder / "runs"))
    shutil.copytree(folder / "runs", template)
    return [asdict(each) | {"good": each.good} for each in tear(workplace, template)]


def _in_use(runs: Path) -> bool:
    from tuning.upkeep import in_training

    return any(in_training(folder, 0.0) for folder in runs.glob("*/trials/*"))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--store", choices=(*STORES, "both"), default="both")
    parser.add_argument("--no-tearing", action="store_true")
    asked = parser.parse_args()
    shared = open_shared_folder()
    atexit.register(shutil.rmtree, shared, ignore_errors=True)
    found: dict[str, Any] = {"sweeps": [], "torn": []}
    for store in STORES if asked.store == "both" else (asked.store,):
        with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
            found["sweeps"].append(disturbed(Path(folder), store, asked.kills, asked.seed))
            print(json.dumps(found["sweeps"][-1]), file=sys.stderr, flush=True)
    if not asked.no_tearing:
        with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
            found["torn"] = torn(Path(folder))
    print(json.dumps(found, indent=2))
    return 0 if all(each["good"] for each in found["torn"]) else 1


if __name__ == "__main__":
    sys.exit(main())
