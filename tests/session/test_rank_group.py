"""A trial over several processes of this machine, begun as a user begins it, and its accidents."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import psutil
import pytest
import torch
from torch import nn

from switokd.session.failures import RankFailedError, RankLostError
from switokd.session.trial_session import TrialResult, open_session
from switokd.spec.trial import TrialSpec
from switokd.tracking.outbox import Outbox
from switokd.train import run
from switokd.training.timeline import DivergedError
from tests.conftest import UserModule
from tests.forks import forking
from tests.forks.sitecustomize import HOOK
from tests.processes import await_
from tests.session.killed_trials import assert_equal_results, trial
from tests.training.rank_processes import AllParts

pytestmark = pytest.mark.slow

PAIR = [{"teachers": ["wrn_16_1"], "students": ["wrn_16_1"]}]
PAUSES = [{"switokd": {"threshold": 0.25}}]
# says no what a network of its own is to say
BROUGHT = """
import torch.distributed as dist
from switokd.models import build_model

def network(num_classes):
    network = build_model("wrn_16_1", num_classes)
    steps = iter(range(8))

    def fail_on_one_rank(module, *_):
        if module.training and dist.is_initialized() and dist.get_rank() == RANK:
            if next(steps, None) is None:
                raise ValueError("no more")

    network.register_forward_hook(fail_on_one_rank)
    return network
"""


def over(workers: int, batch_norm: str = "local", **changes: Any) -> TrialSpec:
    resources = {"workers": workers, "cpus": 1, "batch_norm": batch_norm, "checkpoint_seconds": 0}
    return trial(resources=resources, **{"cohorts": PAIR, "methods": PAUSES} | changes)


def others() -> list[psutil.Process]:
    """The processes of ranks 1 and up."""
    children = psutil.Process().children()
    return [child for child in children if "switokd.session.local_ranks" in child.cmdline()]


@pytest.fixture(autouse=True, scope="module")
def _forked() -> Iterator[None]:
    """Ranks are processes that begin where the imports are done."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in forking().items():
            patch.setenv(name, value)
        yield


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> TrialResult:
    return run(over(2), runs=tmp_path_factory.mktemp("undisturbed"))


def test_two_processes_are_one_that_computes_both_parts(undisturbed: TrialResult) -> None:
    assert not others()
    parts = AllParts(over(2), 2)
    for _ in range(3):
        parts.run_epoch()
    for name, network in parts.trainer.networks.items():
        for key, tensor in network.state_dict().items():
            assert torch.equal(tensor, undisturbed.networks[name].state_dict()[key]), (name, key)
    assert 0 < undisturbed.metrics["expert_share/T1-S1"] < 1


def train_until(
    spec: TrialSpec, runs: Path, step: int, accident: Callable[[], object], tracker: Any = None
) -> None:
    with open_session(spec, runs=runs, tracker=tracker) as session:
        for _ in iter(lambda: session.trainer.step < step, False):
            session.advance(0.0)
        accident()
        for _ in session.epochs():
            pass


def kill_rank_1() -> None:
    (process,) = others()
    process.send_signal(signal.SIGKILL)


def interrupt() -> None:
    raise KeyboardInterrupt


def test_a_trial_whose_rank_is_killed_goes_on_from_its_checkpoint(
    tmp_path: Path, undisturbed: TrialResult
) -> None:
    tracker = MagicMock(closed=False, outbox=Outbox(lambda batch: None, 1, "no store"))
    with pytest.raises(RankLostError, match=r"^rank 1 died \(signal 9\)$"):
        train_until(over(2), tmp_path, 8, kill_rank_1, tracker)
    assert not others()
    # it has not failed: it goes on
    tracker.end.assert_called_once_with("KILLED")
    with pytest.raises(KeyboardInterrupt):
        train_until(over(2), tmp_path, 10, interrupt)
    assert not others()
    assert_equal_results(run(over(2), runs=tmp_path), undisturbed)


@pytest.mark.parametrize("failing", [0, 1])
def test_the_trial_fails_with_what_its_rank_says(
    failing: int, tmp_path: Path, user_module: UserModule
) -> None:
    name = user_module(BROUGHT.replace("RANK", str(failing)))
    spec = over(2, cohorts=[{"teachers": ["wrn_16_1"], "students": [f"{name}:network"]}])
    error = RankFailedError if failing else ValueError
    with pytest.raises(error, match="no more") as raised:
        run(spec, runs=tmp_path)
    assert str(raised.value).startswith(f"rank {failing}: " if failing else "no more")
    assert not others()


def test_a_divergence_ends_all_and_says_where(tmp_path: Path) -> None:
    spec = over(2, recipe={"learning_rate": 1e8})
    with pytest.raises(DivergedError):
        run(spec, runs=tmp_path)
    assert not others()


def test_shared_batch_norms_go_on_with_another_number_of_processes(tmp_path: Path) -> None:
    one = trial(cohorts=PAIR, methods=PAUSES, recipe={"precision": "fp64"})
    shared = [over(n, "synchronized", recipe={"precision": "fp64"}) for n in (3, 2)]
    assert {each.trial_id for each in shared} == {one.trial_id}
    for spec, step in zip(shared, (5, 11), strict=True):
        with pytest.raises(KeyboardInterrupt):
            train_until(spec, tmp_path / "parts", step, interrupt)
    result = run(one, runs=tmp_path / "parts")
    alone = run(one, runs=tmp_path / "alone")
    for name, network in alone.networks.items():
        for key, tensor in network.state_dict().items():
            assert torch.allclose(tensor, result.networks[name].state_dict()[key], atol=1e-9), key


def test_a_network_is_left_as_it_was_built(tmp_path: Path) -> None:
    spec = over(2, "synchronized", recipe={"epochs": 1})
    result = run(spec, runs=tmp_path)
    norms = {type(m) for m in result.networks["S1"].modules() if "Norm" in type(m).__name__}
    assert norms == {nn.BatchNorm2d}


LEADER = """
import sys
from pathlib import Path
from switokd.spec.trial import TrialSpec
from switokd.tracking.outbox import Outbox
from switokd.train import run

run(TrialSpec.model_validate_json(sys.argv[1]), runs=Path(sys.argv[2]))
"""


def test_a_rank_ends_with_the_process_that_leads(tmp_path: Path) -> None:
    spec = over(2, recipe={"epochs": 1000})
    arguments = [sys.executable, "-c", LEADER, spec.model_dump_json(), str(tmp_path)]
    leader = subprocess.Popen(arguments, cwd=Path(__file__).parents[2])
    try:
        await_(lambda: list(tmp_path.rglob("step-*.pt")), of=leader)
        (follower,) = psutil.Process(leader.pid).children()
    finally:
        leader.kill()
        leader.wait()
    # nobody is left to wait for it: it may stay in the list of processes
    gone = (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
    await_(lambda: not follower.is_running() or follower.status() in gone)


def test_a_rank_that_cannot_begin_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "broken.py"
    broken.write_text("import os, sys\nif 'local_ranks' in str(sys.orig_argv): os._exit(3)\n")
    monkeypatch.setenv(HOOK, str(broken))
    with pytest.raises(RankLostError, match=r"^rank 1 died \(exit status 3\) as it began$"):
        run(over(2), runs=tmp_path)
    assert not others()


# its connections stay open, as those of a machine that falls silent
DIES_SILENTLY = """
import os, signal
from pathlib import Path
import torch.distributed as dist
from switokd.models import build_model

def network(num_classes):
    network = build_model("wrn_16_1", num_classes)

    def die(module, *_):
        if module.training and dist.is_initialized() and dist.get_rank() == 1:
            if os.fork():
                os.kill(os.getpid(), signal.SIGKILL)
            Path("HOLDER").write_text(str(os.getpid()))
            signal.pause()

    network.register_forward_hook(die)
    return network
"""


def test_a_process_that_cannot_notice_a_lost_rank_ends(
    tmp_path: Path, user_module: UserModule
) -> None:
    holder = tmp_path / "holder"
    name = user_module(DIES_SILENTLY.replace("HOLDER", str(holder)))
    spec = over(2, cohorts=[{"teachers": ["wrn_16_1"], "students": [f"{name}:network"]}])
    sooner = "from switokd.session import rank_group\nrank_group.NOTICING_SECONDS = 0.5\n"
    said = tmp_path / "said"
    with said.open("w") as file:
        leader = subprocess.Popen(
            [sys.executable, "-c", sooner + LEADER, spec.model_dump_json(), str(tmp_path)],
            env=os.environ | forking(tmp_path / "modules"),
            stderr=file,
        )
    try:
        assert leader.wait(120) == -signal.SIGKILL
    finally:
        leader.kill()
        leader.wait()
        os.kill(int(holder.read_text()), signal.SIGKILL)
    told = "this process waits in vain for others, and ends: rank 1 died (signal 9)"
    assert told in said.read_text()


def test_a_rank_that_fails_before_it_meets_the_others_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "broken.py"
    broken.write_text(
        "import sys\n"
        "if 'local_ranks' in str(sys.orig_argv):\n"
        "    from switokd.session import rank_group\n"
        "    def fail(trial, gpu):\n"
        "        raise OSError('its GPU is busy')\n"
        "    rank_group.device_of_rank = fail\n"
    )
    monkeypatch.setenv(HOOK, str(broken))
    with pytest.raises(RankFailedError, match=r"^rank 1: its GPU is busy$"):
        run(over(2), runs=tmp_path)
    assert not others()


def test_a_rank_outlives_what_ends_a_whole_job(tmp_path: Path, undisturbed: TrialResult) -> None:
    def signal_rank_1() -> None:
        (process,) = others()
        process.send_signal(signal.SIGTERM)

    train_until(over(2), tmp_path, 4, signal_rank_1)
    assert_equal_results(run(over(2), runs=tmp_path), undisturbed)
