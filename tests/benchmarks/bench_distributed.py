"""One trial over several processes beside one process, at the same batch; and what it exchanges.

All take steps in turn, in rounds; ratios are medians over rounds. The switch's exchange is the one
all-reduce of every link's gap and distances before the threshold is taken: it ends when the slowest
rank has come, so that its shortest time is the exchange itself.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from switokd.session.local_ranks import LocalRanks
from switokd.session.rank_group import RankGroup
from switokd.spec.experiment import Experiment
from switokd.training.build import build_trainer, choose_device

WARM_UP_STEPS = 3


class Contender:
    """A trainer of so many processes with so many threads each; takes steps when it is asked."""

    def __init__(self, options: argparse.Namespace, ranks: int, threads: int) -> None:
        gpus = torch.cuda.device_count() >= options.ranks
        resources = {"gpus" if gpus else "workers": ranks, "batch_norm": options.batch_norm}
        experiment = Experiment.model_validate(
            {
                "name": "distributed",
                "dataset": "digits",
                "cohorts": [{"teachers": [options.teacher], "students": [options.student]}],
                "methods": ["switokd"],
                "recipe": {
                    "epochs": 10_000,
                    "batch_size": options.batch_size,
                    "image_size": options.image_size,
                    "learning_rate": 0.01,
                    "precision": options.precision,
                },
                "resources": resources,
            }
        )
        (trial,) = experiment.trials
        self.threads = threads
        self._group = RankGroup(trial, LocalRanks())
        device = choose_device(trial.resources)
        torch.set_num_threads(threads)
        group = self._group.start(device)
        group.share((threads, {}))
        self.trainer = build_trainer(trial, device, None, group)
        group.share({})
        self.exchanges: list[float] = []
        if ranks > 1:
            self.trainer.method.average_over_ranks = self._timed_average
        self.step_seconds(WARM_UP_STEPS)

    def _timed_average(self, values: Tensor) -> Tensor:
        started = time.perf_counter()
        averaged = self.trainer.ranks.average(values)
        self.exchanges.append(time.perf_counter() - started)
        return averaged

    def step_seconds(self, steps: int) -> float:
        """The median of at least so many steps, none of which begins or ends an epoch."""
        torch.set_num_threads(self.threads)
        self.exchanges.clear()
        times: list[float] = []
        before: float | None = None

        def go_on() -> bool:
            nonlocal before
            if self.trainer.device.type == "cuda":
                torch.cuda.synchronize()
            now = time.perf_counter()
            if before is not None:
                times.append(now - before)
            before = now
            return len(times) < steps

        while len(times) < steps:
            before = None
            self.trainer.run_epoch(go_on)
        return statistics.median(times)

    def close(self) -> None:
        self.trainer.data.close()
        self._group.close(None)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="bench_distributed", description=__doc__)
    parser.add_argument("--teacher", default="wrn_16_2")
    parser.add_argument("--student", default="resnet20")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--image-size", type=int, default=32)
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--batch-norm", default="local", choices=["local", "synchronized"])
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    cores = max(1, (os.cpu_count() or 1) // options.ranks)
    contenders = {
        "one process, the cores of one rank": Contender(options, 1, cores),
        "one process, all cores": Contender(options, 1, cores * options.ranks),
        f"{options.ranks} processes": Contender(options, options.ranks, cores),
    }
    divided = list(contenders.values())[-1]
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    shares: list[tuple[float, float]] = []
    try:
        for _ in range(options.rounds):
            for name, contender in contenders.items():
                seconds[name].append(contender.step_seconds(options.steps))
            step, exchanges = seconds[name][-1], divided.exchanges
            shares.append((min(exchanges) / step, statistics.median(exchanges) / step))
    finally:
        for contender in contenders.values():
            contender.close()
    _print(options, contenders, seconds, shares)
    if options.json:
        options.json.write_text(json.dumps({"seconds": seconds, "exchange_shares": shares}))


def _print(
    options: argparse.Namespace,
    contenders: dict[str, Contender],
    seconds: dict[str, list[float]],
    shares: list[tuple[float, float]],
) -> None:
    divided = list(seconds.values())[-1]
    device = list(contenders.values())[-1].trainer.device
    table = Table(
        title=f"{options.teacher} > {options.student}, batch {options.batch_size}, {device}, "
        f"batch norm {options.batch_norm}"
    )
    for column in ("", "threads each", "s a step", "times as fast"):
        table.add_column(column)
    for name, times in seconds.items():
        ratio = statistics.median(one / own for one, own in zip(times, divided, strict=True))
        threads = str(contenders[name].threads)
        table.add_row(name, threads, f"{statistics.median(times):.3f}", f"{ratio:.2f}")
    console = Console(width=110)
    console.print(table)
    console.print(
        "times as fast: the divided trial beside this one. The switch's exchange: "
        f"{100 * statistics.median(least for least, _ in shares):.2f} % of a step at its shortest, "
        f"{100 * statistics.median(usual for _, usual in shares):.2f} % with the wait for the "
        "slower rank",
        highlight=False,
    )


if __name__ == "__main__":
    main()
