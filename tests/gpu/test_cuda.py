"""A trial on a GPU is the trial that it is on a CPU: its modes, its bits, its way back."""

from __future__ import annotations

import copy
import io
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from sklearn.datasets import load_sample_images

from switokd.data.images.decode import decode_rgb, decode_rgb_on_gpu
from switokd.data.packed.lmdb_pack import pack
from switokd.session.memory import PeakMemory
from switokd.spec.experiment import Experiment
from switokd.spec.trial import TrialSpec
from switokd.training.build import build_trainer
from switokd.training.trainer import Trainer
from tests.data.conftest import memory_pipeline
from tests.session.killed_trials import assert_resumes, trial

CUDA = torch.device("cuda")
REPOSITORY = Path(__file__).parents[2]
ENGINES = pytest.mark.parametrize("engine", ["eager", "graphed"])
COHORTS = {
    "1T1S": {"teachers": ["wrn_16_1"], "students": ["resnet20"]},
    "2T1S": {"teachers": ["wrn_16_1", "resnet20"], "students": ["resnet20"]},
    "1T2S": {"teachers": ["wrn_16_1"], "students": ["resnet20", "mobilenet_v2_x0_5"]},
}
METHODS: dict[str, Any] = {
    "switokd": "switokd",
    "switokd, fixed": {"switokd": {"threshold": 0.6}},
    "vanilla": "vanilla",
    "dml": "dml",
    "kdcl naive": {"kdcl": {"variant": "naive"}},
    "kdcl minlogit": {"kdcl": {"variant": "minlogit"}},
    "kdcl linear": {"kdcl": {"variant": "linear"}},
    "kdcl general": {"kdcl": {"variant": "general"}},
    "kdcl, own views": {"kdcl": {"variant": "naive", "views": "own"}},
}


def spec(cohort: str = "1T1S", method: Any = "switokd", **recipe: Any) -> TrialSpec:
    """Digits in 16 x 16; rates that are float32 numbers, so that no engine rounds them."""
    defaults = {"epochs": 2, "batch_size": 128, "image_size": 16, "learning_rate": 0.0625}
    content = {
        "name": "gpu",
        "dataset": "digits",
        "cohorts": [COHORTS[cohort]],
        "methods": [method],
        "temperatures": [2.0],
        "recipe": {**defaults, "deterministic": True, **recipe},
    }
    return Experiment.model_validate(content).trials[0]


def trained(trial: TrialSpec, device: torch.device = CUDA) -> Trainer:
    trainer = build_trainer(trial, device)
    while not trainer.done:
        trainer.run_epoch()
    return trainer


def modes(trainer: Trainer) -> torch.Tensor:
    """Steps x links: 1 in expert mode."""
    columns = [
        torch.from_numpy(trainer.timeline.switch(link)["expert"]) for link in trainer.method.links
    ]
    return torch.stack(columns, dim=1)


def assert_same_bits(first: Trainer, second: Trainer) -> None:
    assert torch.equal(first.timeline.rows(), second.timeline.rows())
    for name, network in first.networks.items():
        other = second.networks[name].state_dict()
        for key, tensor in network.state_dict().items():
            assert torch.equal(tensor, other[key]), (name, key)


@pytest.mark.parametrize("cohort", COHORTS)
def test_every_step_in_float64_is_the_cpu_s(cohort: str) -> None:
    """Decisions, quantities and weights, each step from the state that the CPU's is in.

    Two machines' trajectories part in the end, whatever the precision: a network of many layers of
    batch normalisation takes the last bit to the first in some ten steps.
    """
    torch.set_num_threads(4)
    trial = spec(cohort, precision="fp64", epochs=1, batch_size=64, image_size=8)
    cpu, gpu = build_trainer(trial, torch.device("cpu")), build_trainer(trial, CUDA)
    for images, targets, _ in cpu.data.train_epoch():
        gpu.load_state_dict(copy.deepcopy(cpu.state_dict()))
        for trainer in (cpu, gpu):
            trainer.train_step(images.to(trainer.device), targets.to(trainer.device))
        for name, network in cpu.networks.items():
            weights = gpu.networks[name].state_dict()
            for key, expected in network.state_dict().items():
                torch.testing.assert_close(weights[key].cpu(), expected, rtol=1e-7, atol=1e-9)
    assert torch.equal(modes(gpu), modes(cpu))
    assert 0 < modes(cpu).mean() < 1, "both modes occur"
    torch.testing.assert_close(gpu.timeline.rows(), cpu.timeline.rows(), rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("cohort", COHORTS)
def test_recorded_steps_are_the_eager_ones(cohort: str, precision: str) -> None:
    """To the bit, over a milestone, partial batches, and both modes."""
    recipe: dict[str, Any] = {"precision": precision, "milestones": [2], "epochs": 3}
    eager = trained(spec(cohort, **recipe))
    graphed = trained(spec(cohort, engine="graphed", **recipe))
    assert 0 < modes(eager).mean() < 1, "both modes occur"
    assert_same_bits(eager, graphed)


@pytest.mark.parametrize("method", METHODS)
def test_recorded_steps_of_every_method(method: str) -> None:
    recipe: dict[str, Any] = {"holdout": 0.2} if "general" in method else {}
    if "views" in method:
        recipe["augmentation"] = "crop"
    eager = trained(spec("1T1S", METHODS[method], **recipe))
    graphed = trained(spec("1T1S", METHODS[method], engine="graphed", **recipe))
    assert_same_bits(eager, graphed)


def test_recorded_steps_of_adam() -> None:
    recipe: dict[str, Any] = {"optimizer": "adam", "learning_rate": 2.0**-10, "epochs": 3}
    assert_same_bits(trained(spec(**recipe)), trained(spec(engine="graphed", **recipe)))


def test_a_rate_that_float32_rounds_moves_little() -> None:
    """0.05 is no float32 number: the first steps after recording agree to rounding."""
    recipe: dict[str, Any] = {"learning_rate": 0.05, "epochs": 1}
    eager, graphed = trained(spec(**recipe)), trained(spec(engine="graphed", **recipe))
    torch.testing.assert_close(
        eager.timeline.rows()[:8], graphed.timeline.rows()[:8], rtol=1e-4, atol=1e-5
    )


@ENGINES
@pytest.mark.parametrize(
    "changes",
    [
        {"recipe": {}},
        {"recipe": {"precision": "bf16"}},
        {"recipe": {"optimizer": "adam", "learning_rate": 0.001, "schedule": "cosine"}},
        {"methods": [{"kdcl": {"variant": "general"}}], "recipe": {"holdout": 0.2}},
    ],
    ids=["fp32", "bf16", "adam, cosine", "kdcl"],
)
def test_killed_and_resumed_it_ends_in_the_same_bits(
    changes: dict[str, Any], engine: str, tmp_path: Path
) -> None:
    recipe = {**changes["recipe"], "engine": engine, "deterministic": True}
    # 12 steps an epoch, so that steps are replayed before and after the kill
    recipe["batch_size"] = 50
    assert_resumes(trial(**{**changes, "recipe": recipe}), tmp_path)


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    """36 distinct JPEGs of three classes for training, 12 for the test."""
    pictures = [Image.fromarray(image) for image in load_sample_images().images]
    for split, count in (("train", 12), ("val", 4)):
        for label in range(3):
            folder = tmp_path / "images" / split / f"class{label}"
            folder.mkdir(parents=True)
            for number in range(count):
                part = pictures[label % 2].crop((number * 9, label * 7, 300, 200))
                part.resize((96 + 8 * number, 80)).save(folder / f"{number}.jpg", quality=90)
    return tmp_path / "images"


@ENGINES
def test_killed_and_resumed_over_an_lmdb_of_jpegs(
    engine: str, photographs: Path, tmp_path: Path
) -> None:
    (tmp_path / "packed").mkdir()
    for name in ("train", "val"):
        pack(photographs / name, tmp_path / "packed" / f"{name}.lmdb")
    recipe = {"batch_size": 6, "image_size": 32, "train_images": None}
    recipe |= {"engine": engine, "deterministic": True}
    dataset = {"name": "image_folder", "path": str(tmp_path / "packed")}
    assert_resumes(trial(dataset=dataset, recipe=recipe), tmp_path)


def test_jpegs_decoded_on_the_gpu_are_the_cpu_s(photographs: Path) -> None:
    """To the few levels by which two decoders' inverse transforms differ."""
    paths = sorted(photographs.rglob("*.jpg"))
    data, names = [path.read_bytes() for path in paths], [*map(str, paths)]
    for mode, kind in (("RGB", "PNG"), ("L", "JPEG"), ("CMYK", "JPEG")):
        file = io.BytesIO()
        Image.open(paths[0]).convert(mode).save(file, kind)
        data.append(file.getvalue())
        names.append(f"{mode} {kind}")
    for name, encoded, image in zip(names, data, decode_rgb_on_gpu(data, names, CUDA), strict=True):
        expected = decode_rgb(encoded, name)
        assert image.device.type == "cuda"
        difference = (image.cpu().int() - expected.int()).abs()
        assert image.shape == expected.shape
        assert difference.float().mean() < 2, name


def test_it_gets_the_batches_of_the_cpu() -> None:
    on_cpu, on_gpu = (memory_pipeline([0, 1] * 5, device=device) for device in ("cpu", "cuda"))
    for a, b in zip(on_cpu.train_epoch(), on_gpu.train_epoch(), strict=True):
        assert b.images.is_cuda
        assert torch.equal(a.images, b.images.cpu())
        assert torch.equal(a.labels, b.labels.cpu())


PROCESS = """
import hashlib, sys, torch
from tests.gpu.test_cuda import spec, trained
trainer = trained(spec("2T1S", precision="bf16", engine=sys.argv[1]))
digest = hashlib.sha256(trainer.timeline.rows().numpy().tobytes())
for network in trainer.networks.values():
    for tensor in network.state_dict().values():
        digest.update(tensor.cpu().numpy().tobytes())
print(digest.hexdigest())
"""


@ENGINES
def test_two_processes_end_in_the_same_bits(engine: str) -> None:
    command = [sys.executable, "-c", PROCESS, engine]
    running = [
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=REPOSITORY)
        for _ in range(2)
    ]
    first, second = (process.communicate(timeout=300)[0] for process in running)
    assert first == second
    assert len(first.strip()) == 64, "a digest"


def test_graphs_take_little_more_memory(figures: Callable[..., None]) -> None:
    peaks = {}
    for engine in ("eager", "graphed"):
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        trained(spec(engine=engine, deterministic=False, image_size=32))
        peaks[engine] = (torch.cuda.max_memory_reserved() - before) / 2**20
    figures(peak_memory_mib=peaks)
    assert peaks["graphed"] < 2 * peaks["eager"] + 256, peaks


def test_the_peak_memory_of_a_trial_is_what_was_allocated_there() -> None:
    peak = PeakMemory(CUDA)
    start = peak.mib()
    block = torch.ones(48 * 2**20, dtype=torch.uint8, device=CUDA)
    del block
    assert 48 <= peak.mib() - start <= 50
