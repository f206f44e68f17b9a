"""What we rely on inside Ray Tune: here, not in a sweep, it shows that a new Ray has changed it."""

from __future__ import annotations

import ast
import importlib
import inspect
import logging
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import pytest
import ray
from ray import cloudpickle, tune
from ray.exceptions import ActorDiedError, RayTaskError
from ray.train._internal.storage import StorageContext
from ray.tune.execution import tune_controller
from ray.tune.experiment import Trial
from ray.tune.result import EXPR_ERROR_PICKLE_FILE
from ray.tune.schedulers import PopulationBasedTraining

import tuning
from switokd.session.failures import RankLostError
from tuning import tune_internals
from tuning.tune_internals import PopulationScheduler, error_of, silence_worker_deaths, worker_of
from tuning.workers import ray_environment

TUNING = Path(tuning.__file__).parent
PUBLIC_MODULES = {
    *("ray", "ray.exceptions", "ray.tune"),
    *("ray.tune.experiment", "ray.tune.schedulers", "ray.tune.search"),
    *("ray.util", "ray.util.scheduling_strategies"),
}
# without an underscore, and yet not in Tune's reference
UNDOCUMENTED = {"temporary_state", "run_metadata", "get_pickled_error", "search_alg"}
# the hooks of Tune's that `PopulationScheduler` overrides or calls
HOOKS = {
    "_quantiles": ["self"],
    "_checkpoint_or_exploit": [
        *("self", "trial", "tune_controller", "upper_quantile", "lower_quantile"),
    ],
    "_get_new_config": ["self", "trial", "trial_to_clone"],
}


def modules() -> Iterator[Any]:
    for found in pkgutil.walk_packages([str(TUNING)], "tuning."):
        yield importlib.import_module(found.name)


def test_only_one_module_touches_private_parts() -> None:
    found = []
    for path in TUNING.rglob("*.py"):
        if path == Path(tune_internals.__file__):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if touches_private_parts(node):
                found.append(f"{path.name}:{node.lineno}: {ast.unparse(node)}")
    assert not found


def touches_private_parts(node: Any) -> bool:
    if isinstance(node, ast.Import):
        names = [alias.name for alias in node.names if alias.name.split(".")[0] == "ray"]
        return bool(set(names) - PUBLIC_MODULES)
    if isinstance(node, ast.ImportFrom):
        of_ray = (node.module or "").split(".")[0] == "ray"
        private = any(alias.name.startswith("_") for alias in node.names)
        return of_ray and (node.module not in PUBLIC_MODULES or private)
    if isinstance(node, ast.Attribute):
        own = isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")
        private = node.attr.startswith("_") and not node.attr.startswith("__")
        return node.attr in UNDOCUMENTED or (private and not own)
    return False


@pytest.mark.parametrize(
    "line",
    [
        *("import ray._private.services", "from ray.tune.execution import tune_controller"),
        *("from ray.tune import _tune", "trial._default_result", "super()._exploit(1)"),
        *("trial.temporary_state.ray_actor", "trial.get_pickled_error()"),
    ],
)
def test_private_parts_are_recognized(line: str) -> None:
    assert any(touches_private_parts(node) for node in ast.walk(ast.parse(line)))


def private_names(kind: type) -> set[str]:
    """What a class defines or uses of itself under a private name."""
    names = set(vars(kind)) | set(re.findall(r"\bself\.(\w+)", inspect.getsource(kind)))
    private = {name for name in names if name.startswith("_") and not name.startswith("__")}
    # every abstract class has one of its own
    return private - {"_abc_impl"}


def test_no_private_name_of_ours_is_one_of_rays() -> None:
    classes = {
        kind
        for module in modules()
        for kind in vars(module).values()
        if inspect.isclass(kind) and kind.__module__.startswith("tuning.")
    }
    heirs = 0
    for kind in classes:
        bases = [base for base in kind.__mro__[1:] if base is not object]
        of_ray = [base for base in bases if base.__module__.startswith("ray.")]
        heirs += bool(of_ray)
        shared = private_names(kind) & set().union(*map(private_names, bases)) if of_ray else set()
        assert shared == (set(HOOKS) if kind is PopulationScheduler else set()), kind
    # GracefulStop, PopulationScheduler, Population, PointSearch, ProgressCallback, TrialWorker
    assert heirs >= 6


@pytest.mark.parametrize(("name", "parameters"), HOOKS.items())
def test_the_hooks_of_a_population_are_tunes(name: str, parameters: list[str]) -> None:
    hook = getattr(PopulationBasedTraining, name)
    assert list(inspect.signature(hook).parameters) == parameters
    if name in vars(PopulationScheduler):
        ours = inspect.signature(vars(PopulationScheduler)[name])
        assert list(ours.parameters) == parameters


class Controller:
    """What Tune's schedulers use of its controller."""

    search_alg = None

    def __init__(self, trials: list[Trial]) -> None:
        self.trials = trials
        self.saved: list[Trial] = []

    def get_trials(self) -> list[Trial]:
        return self.trials

    def _schedule_trial_save(self, trial: Trial, result: dict[str, Any]) -> None:
        self.saved.append(trial)


class Recorder(PopulationScheduler):
    """The later a trial's name in the alphabet, the better it is."""

    def __init__(self) -> None:
        super().__init__(
            quantile_fraction=0.25,
            seed=0,
            time_attr="epoch",
            metric="objective",
            mode="max",
            perturbation_interval=2,
            hyperparam_mutations={"choice": {"point": {"rate": tune.uniform(0.0, 1.0)}}},
            log_config=False,
        )
        self.compared = 0
        self.exchanges: list[tuple[Trial, Trial, dict[str, Any]]] = []

    def ranked(self) -> list[Trial]:
        self.compared += 1
        return sorted(self._trial_state, key=lambda trial: trial.trial_id)

    def exchange(self, member: Trial, donor: Trial, config: dict[str, Any]) -> None:
        self.exchanges.append((member, donor, config))


class Members:
    """Five trials of a population, all running."""

    def __init__(self) -> None:
        self.scheduler = Recorder()
        self.trials = []
        for name in "abcde":
            choice = {"name": name, "point": {"rate": 0.5}}
            trial = Trial("stub", stub=True, trial_id=name, config={"choice": choice})
            trial.set_status(Trial.RUNNING)
            self.trials.append(trial)
        self.controller = Controller(self.trials)
        for trial in self.trials:
            self.scheduler.on_trial_add(self.controller, trial)

    def report(self, trial: Trial, epoch: int, value: float = 1.0) -> str:
        result = {"epoch": epoch, "objective": value}
        return str(self.scheduler.on_trial_result(self.controller, trial, result))


@pytest.fixture
def members() -> Members:
    return Members()


def test_members_are_compared_at_each_interval(members: Members) -> None:
    trial = members.trials[2]
    compared = []
    for epoch in range(1, 5):
        members.report(trial, epoch)
        compared.append(members.scheduler.compared)
    assert compared == [0, 1, 1, 2]


def test_the_best_quarter_saves_and_the_worst_exchanges(members: Members) -> None:
    for trial in members.trials:
        assert members.report(trial, 2) == "CONTINUE"
    a, b, _, d, e = members.trials
    # a quarter of five is two, rounded up
    assert members.controller.saved == [d, e]
    assert [member for member, _, _ in members.scheduler.exchanges] == [a, b]
    assert {donor for _, donor, _ in members.scheduler.exchanges} <= {d, e}


def test_a_drawn_config_is_the_donors_with_changed_settings(members: Members) -> None:
    rates = set()
    for epoch in range(2, 42, 2):
        members.report(members.trials[0], epoch)
    for member, donor, config in members.scheduler.exchanges:
        assert config["choice"]["name"] == donor.trial_id
        rates.add(config["choice"]["point"]["rate"])
        # neither is touched: the member stays itself
        for trial in (member, donor):
            assert trial.config["choice"] == {"name": trial.trial_id, "point": {"rate": 0.5}}
            assert trial.status == Trial.RUNNING
    assert len(members.scheduler.exchanges) == 20
    # times 0.8 or 1.2, or drawn anew
    assert {0.4, 0.6} < {round(rate, 12) for rate in rates}
    assert 0.5 not in rates


def test_members_take_turns(members: Members) -> None:
    a, b, c, *_ = members.trials
    c.set_status(Trial.PENDING)
    assert members.report(a, 2) == "PAUSE"
    a.set_status(Trial.PAUSED)
    assert members.scheduler.choose_trial_to_run(members.controller) is c
    c.set_status(Trial.RUNNING)
    assert members.report(c, 4) == "PAUSE"
    c.set_status(Trial.PAUSED)
    # it has trained for fewer epochs
    assert members.scheduler.choose_trial_to_run(members.controller) is a
    a.set_status(Trial.RUNNING)
    c.set_status(Trial.TERMINATED)
    assert members.report(b, 2) == "CONTINUE"


def test_a_trial_has_its_worker_while_there_is_one(members: Members) -> None:
    trial, worker = members.trials[0], MagicMock()
    assert worker_of(trial) is None
    trial.set_ray_actor(worker)
    assert worker_of(trial) is worker
    trial.set_ray_actor(None)
    assert worker_of(trial) is None


def test_a_trial_has_the_error_that_ended_its_worker(tmp_path: Path) -> None:
    storage = StorageContext(str(tmp_path), "experiment", trial_dir_name="trial")
    trial = Trial("stub", stub=True, storage=storage)
    assert error_of(trial) is None
    # as `handle_error` leaves it in a trial's folder, which only a running Ray has
    trial.run_metadata.pickled_error_filename = EXPR_ERROR_PICKLE_FILE
    folder = Path(storage.trial_fs_path)
    folder.mkdir(parents=True)
    file = folder / EXPR_ERROR_PICKLE_FILE
    file.write_bytes(cloudpickle.dumps(ActorDiedError()))
    assert isinstance(error_of(trial), ActorDiedError)
    # an exception of the worker's own, without Ray's account of where it was
    lost = RankLostError("rank 1 died")
    by_ray = RayTaskError("TrialWorker.train", "Traceback (most recent call last)", lost)
    file.write_bytes(cloudpickle.dumps(by_ray.as_instanceof_cause()))
    assert str(error_of(trial)) == "rank 1 died"


def test_tune_logs_no_worker_deaths() -> None:
    logger = logging.getLogger("ray.tune")
    before = logger.level
    try:
        silence_worker_deaths()
        assert not tune_controller.logger.isEnabledFor(logging.ERROR)
    finally:
        logger.setLevel(before)


def test_ray_reads_each_variable_that_we_set() -> None:
    wanted = {*ray_environment.DEFAULTS, "RAY_AUTH_MODE", "RAY_AUTH_TOKEN"}
    wanted |= {"worker_process_setup_hook"}
    for room in ("_common", "_private", "air", "tune"):
        for path in (Path(ray.__file__).parent / room).rglob("*.py"):
            text = path.read_text(encoding="utf-8")
            wanted -= {name for name in wanted if name in text}
    assert not wanted


def test_ray_tells_of_its_node_process_what_we_sort_out() -> None:
    """The name that is wrapped, the words that are left out, and the call that kills."""
    from ray._private import node, process_watcher, worker

    assert f'"{tune_internals.RAYLET_DIED} "' in inspect.getsource(process_watcher)
    source = inspect.getsource(worker.listen_error_messages)
    assert "print_to_stdstream(" in source
    assert '"lines": [error_message]' in source
    assert "check_alive" in inspect.signature(node.Node.kill_all_processes).parameters
    assert hasattr(worker, "_global_node")


def test_only_the_node_process_death_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    from ray._private import worker

    told: list[str] = []
    monkeypatch.setattr(worker, "print_to_stdstream", lambda data, **_: told.extend(data["lines"]))
    tune_internals.silence_raylet_death()
    for line in (f"{tune_internals.RAYLET_DIED} Last 20 lines", "killed for its memory"):
        worker.print_to_stdstream({"lines": [line]}, ignore_prefix=False)
    assert told == ["killed for its memory"]
