"""The cohort step against a typical research script and against the roof, in turn, medians.

plain: `plain_loop`, data included, its loader already running. ours: the trainer with its pipeline,
data included. roof: forward, backward and optimizer of the same networks on one fixed batch, in
ours' engine, precision and layout, everything else removed. In the free runs plain, ours and roof
replay one sequence of modes. silent: ours without the timeline's record of every step. unwaited:
ours without the wait for a step's flags, which the host knows in a free run. Recording costs far
less than two runs differ by, so that it is timed by itself as well.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from tests.benchmarks import plain_loop
from tests.benchmarks.contenders import (
    BATCH,
    BENCHED,
    CASES,
    FREE_MODES,
    KINDS,
    MODES,
    WARM_UP_STEPS,
    Batches,
    Case,
    Ours,
    Roof,
    Variant,
    build_plain,
)

RECORDS = 1024


def rate(action: Callable[[], int], device: torch.device) -> float:
    """Images per second of one call."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    started = time.perf_counter()
    images = action()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return images / (time.perf_counter() - started)


def say(what: str) -> None:
    """A line for whoever waits; the table comes last."""
    print(what, file=sys.stderr, flush=True)


def record_seconds(ours: Ours) -> float:
    """What recording one step costs, the transfer of whole blocks to the host included."""
    trainer = ours.trainer
    images, targets = next(ours.batches.epoch())
    step = trainer.train_step(images, targets)
    trainer.timeline.flush()
    started = time.perf_counter()
    for _ in range(RECORDS):
        trainer.timeline.record(step, images=len(targets))
    trainer.timeline.flush()
    return (time.perf_counter() - started) / RECORDS


@dataclass(frozen=True)
class Figures:
    """Images per second, medians of runs in turn, and what follows from neighbouring runs.

    Ratios in percent are of time: what recording adds by difference and by itself, and what the
    wait for the flags adds. Warm-ups are the first steps of the first and of the last trial: it
    finds what the first one compiled.
    """

    cohort: str
    mode: str
    precision: str
    engine: str
    plain: float
    ours: float
    roof: float
    ours_to_plain: float
    ours_to_roof: float
    recording_percent_by_difference: float | None
    recording_percent_alone: float
    waiting_percent: float | None
    first_warm_up_seconds: float
    last_warm_up_seconds: float


def measure(
    case: Case,
    mode: str,
    variants: list[Variant],
    steps: int,
    repeats: int,
    workers: int,
    kinds: list[str],
    device: torch.device,
) -> list[Figures]:
    """One mode of one cohort: plain and all variants in turn, `repeats` times."""
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (steps * BATCH, 32, 32, 3), dtype=np.uint8)
    labels = random.integers(0, case.classes, steps * BATCH)
    batches = Batches(images, labels, device)
    plain = build_plain(case, device)
    loader = plain_loop.endless(images, labels, BATCH, workers, device.type == "cuda")
    modes = FREE_MODES if mode == "free" else None
    plain.train(itertools.islice(loader, WARM_UP_STEPS), mode, modes)
    built: dict[Variant, dict[str, Ours | Roof]] = {}
    for variant in variants:
        started = time.perf_counter()
        built[variant] = {"roof": Roof(case, mode, variant, batches, steps)} | {
            kind: Ours(case, mode, variant, batches, kind) for kind in kinds
        }
        say(f"{variant} warmed up in {time.perf_counter() - started:.0f} s")
    plain_rates: list[float] = []
    rates: dict[Variant, dict[str, list[float]]] = {
        variant: {kind: [] for kind in runs} for variant, runs in built.items()
    }
    for _ in range(repeats):
        script = functools.partial(plain.train, itertools.islice(loader, steps), mode, modes)
        plain_rates.append(rate(script, device))
        say(f"plain {plain_rates[-1]:.0f} images/s")
        for variant, runs in built.items():
            for kind, run in runs.items():
                rates[variant][kind].append(rate(run.run, device))
                say(f"{variant} {kind} {rates[variant][kind][-1]:.0f} images/s")
    return [
        _figures(case, mode, variant, plain_rates, rates[variant], built[variant])
        for variant in variants
    ]


def _figures(
    case: Case,
    mode: str,
    variant: Variant,
    plain: list[float],
    rates: dict[str, list[float]],
    built: dict[str, Any],
) -> Figures:
    def ratio(first: list[float], second: list[float]) -> float:
        # of neighbouring runs, so that the machine's other work cancels out
        return statistics.median(a / b for a, b in zip(first, second, strict=True))

    def more_percent(kind: str) -> float | None:
        return 100 * (ratio(rates[kind], rates["ours"]) - 1) if kind in rates else None

    ours = statistics.median(rates["ours"])
    trials = [run for run in built.values() if isinstance(run, Ours)]
    return Figures(
        cohort=case.name,
        mode=mode,
        **asdict(variant),
        plain=statistics.median(plain),
        ours=ours,
        roof=statistics.median(rates["roof"]),
        ours_to_plain=ratio(rates["ours"], plain),
        ours_to_roof=ratio(rates["ours"], rates["roof"]),
        recording_percent_by_difference=more_percent("silent"),
        recording_percent_alone=100 * record_seconds(built["ours"]) * ours / BATCH,
        waiting_percent=more_percent("unwaited"),
        first_warm_up_seconds=built["ours"].warm_up_seconds,
        last_warm_up_seconds=trials[-1].warm_up_seconds,
    )


def has_bf16(device: torch.device) -> bool:
    """Whether bf16 is done in hardware; emulated, it is slower than fp32 and says nothing."""
    cpu = Path("/proc/cpuinfo")
    return device.type == "cuda" or (cpu.exists() and "bf16" in cpu.read_text(encoding="utf-8"))


def main(arguments: list[str] | None = None) -> list[Figures]:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", nargs="+", choices=CASES, help="default all; on a CPU the first")
    parser.add_argument("--modes", nargs="+", choices=MODES, default=list(MODES))
    parser.add_argument("--precisions", nargs="+", choices=["fp32", "bf16"])
    parser.add_argument("--engines", nargs="+", choices=BENCHED, help="default eager and graphed")
    parser.add_argument("--steps", type=int, help="of a measurement; default 200, on a CPU 5")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2, help="of the plain script's loader")
    parser.add_argument("--threads", type=int, default=2, help="torch threads on the CPU")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--json", type=Path, help="write every figure there as well")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.backends.cudnn.benchmark = True
    on_gpu = device.type == "cuda"
    # the wide teachers of the other two take hours on a CPU
    cases = options.cases or (list(CASES) if on_gpu else ["cifar100"])
    precisions = options.precisions or (["fp32", "bf16"] if has_bf16(device) else ["fp32"])
    engines = options.engines or (["eager", "graphed"] if on_gpu else ["eager", "compiled"])
    steps = options.steps or (200 if on_gpu else 5)
    where = torch.cuda.get_device_name() if on_gpu else platform.processor()
    console = Console(width=170)
    console.print(
        f"torch {torch.__version__}, {device.type} {where or platform.machine()}, "
        f"{options.threads} threads, batch {BATCH}, {steps} steps, median of {options.repeats}; "
        f"fp32 convolutions in TF32: {on_gpu and torch.backends.cudnn.allow_tf32}"
    )
    variants = [Variant(*each) for each in itertools.product(precisions, engines)]
    results: list[Figures] = []
    for case, mode in itertools.product(cases, options.modes):
        found = measure(
            CASES[case],
            mode,
            variants,
            steps,
            options.repeats,
            options.workers,
            options.kinds,
            device,
        )
        results += found
        console.print(_table(found))
        if options.json:
            text = json.dumps([asdict(figures) for figures in results], indent=1)
            options.json.write_text(text, encoding="utf-8")
    return results


def _table(results: list[Figures]) -> Table:
    headings = ("cohort", "mode", "precision", "engine", "plain", "ours", "roof", "ours/plain")
    more = ("ours/roof", "record on/off %", "alone %", "waiting %", "warm-ups s")
    table = Table(*headings, *more, title="images/s, data included (roof: without)", box=None)
    for row in results:
        table.add_row(
            *(row.cohort, row.mode, row.precision, row.engine),
            *(f"{rate:.0f}" for rate in (row.plain, row.ours, row.roof)),
            *(f"{ratio:.2f}" for ratio in (row.ours_to_plain, row.ours_to_roof)),
            _percent(row.recording_percent_by_difference),
            f"{row.recording_percent_alone:.3f}",
            _percent(row.waiting_percent),
            f"{row.first_warm_up_seconds:.0f}, {row.last_warm_up_seconds:.0f}",
        )
    return table


def _percent(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"


if __name__ == "__main__":
    main()
