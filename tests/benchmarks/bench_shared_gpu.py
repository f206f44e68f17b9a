"""Several trials on one GPU: in one process, in threads with a stream each, and in processes.

The trials are wrn_16_2 > resnet20 of CIFAR-100's shape, the teacher's modes replayed, each with its
own networks, graphs and batches.
"""

from __future__ import annotations

import argparse
import itertools
import json
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import numpy as np
import torch

from switokd.session.trial_thread import TrialThread
from tests.benchmarks.contenders import BATCH, Batches, Case, Ours, Variant

CASE = Case("wrn_16_2>resnet20", 100, (("wrn_16_2", 0.1), ("resnet20", 0.1)))
EPOCH_STEPS = 50


def build(precision: str, engine: str) -> Ours:
    """A trial that has recorded its graphs."""
    torch.backends.cudnn.benchmark = True
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (EPOCH_STEPS * BATCH, 32, 32, 3), dtype=np.uint8)
    labels = random.integers(0, CASE.classes, EPOCH_STEPS * BATCH)
    return Ours(CASE, "free", Variant(precision, engine), Batches(images, labels, cuda()))


def cuda() -> torch.device:
    return torch.device("cuda")


def train(trial: Ours, seconds: float) -> float:
    """Images per second of one trial that trains so long."""
    started, images = time.perf_counter(), 0
    while time.perf_counter() - started < seconds:
        images += trial.run()
        torch.cuda.current_stream().synchronize()
    return images / (time.perf_counter() - started)


def in_threads(threads: list[TrialThread], trials: list[Ours], seconds: float) -> float:
    """Images per second of all trials, which train side by side in this process."""
    with ThreadPoolExecutor(len(trials)) as pool:
        rates = pool.map(
            lambda thread, trial: thread.do(train, trial, seconds), threads[: len(trials)], trials
        )
        return sum(rates)


def in_processes(count: int, seconds: float, precision: str, engine: str) -> float:
    """Images per second of all trials, each in a process that has warmed up before it begins."""
    command = [
        sys.executable,
        "-m",
        "tests.benchmarks.bench_shared_gpu",
        "--child",
        precision,
        engine,
        str(seconds),
    ]
    children = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(count)
    ]
    for child in children:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
    answers = []
    for child in children:
        assert child.stdin is not None
        child.stdin.write("go\n")
        child.stdin.flush()
    for child in children:
        answers.append(float(child.communicate()[0]))
    return sum(answers)


def measured(
    precision: str, engine: str, counts: list[int], seconds: float
) -> list[dict[str, Any]]:
    """Images per second of one trial, and of so many in threads and in processes."""
    torch.set_num_threads(1)
    with ExitStack() as stack:
        threads = [
            stack.enter_context(closing(TrialThread(f"trial {number}")))
            for number in range(max(counts))
        ]
        trials = [thread.do(build, precision, engine) for thread in threads]
        alone = threads[0].do(train, trials[0], seconds)
        print(f"{precision} {engine}: 1 trial {alone:.0f} images/s", flush=True)
        figures = []
        for count in counts:
            side_by_side = in_threads(threads, trials[:count], seconds)
            processes = in_processes(count, seconds, precision, engine)
            print(
                f"  {count} trials: threads {side_by_side:.0f} ({side_by_side / alone:.2f} of one),"
                f" processes {processes:.0f} ({processes / alone:.2f} of one)",
                flush=True,
            )
            figures.append(
                {"precision": precision, "engine": engine, "trials": count, "alone": alone}
                | {"threads": side_by_side, "processes": processes}
            )
    return figures


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, nargs="+", default=[4, 8])
    parser.add_argument("--seconds", type=float, default=5.0, help="of each measurement")
    parser.add_argument("--precisions", nargs="+", default=["bf16"])
    parser.add_argument("--engines", nargs="+", default=["eager", "graphed"])
    parser.add_argument("--child", nargs=3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    if not torch.cuda.is_available():
        print("several trials on one GPU: needs a GPU")
        return
    if options.child:
        precision, engine, seconds = options.child
        trial = build(precision, engine)
        print("ready", flush=True)
        sys.stdin.readline()
        print(train(trial, float(seconds)))
        return
    figures = [
        row
        for precision, engine in itertools.product(options.precisions, options.engines)
        for row in measured(precision, engine, options.trials, options.seconds)
    ]
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
