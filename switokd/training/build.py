"""The wiring of one trial: what a spec names is built here, and handed to the trainer."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn

from switokd.data import Pipeline, open_pipeline
from switokd.data.parts import WHOLE, Part
from switokd.methods import build_method
from switokd.methods.base import Method, Surroundings
from switokd.models import build_model, stage_of, stages_of
from switokd.models.initialization import initialize
from switokd.models.outside import outside
from switokd.models.stored_weights import load_strictly, read_weights_file, with_new_head
from switokd.spec.network import digest_of_file
from switokd.spec.recipe import ENGINES, NetworkSpec
from switokd.spec.resources import Resources
from switokd.spec.trial import TrialSpec
from switokd.training.exclusive import BUILDING
from switokd.training.maps import MapRecorder
from switokd.training.optimizers import build_optimizer, build_schedule
from switokd.training.ranks import ALONE, Ranks
from switokd.training.teachers import MOST_BYTES, FrozenOutputs, StateDict
from switokd.training.trainer import Trainer
from switokd.training.tryout import try_out
from switokd.validation import SpecError

# of images for a network that is tried out where the recipe leaves their size to the data set
TRIED_SIZE = 32


def build_trainer(
    trial: TrialSpec,
    device: torch.device,
    teachers: Mapping[str, Mapping[int, StateDict]] | None = None,
    ranks: Ranks = ALONE,
) -> Trainer:
    """The trainer of a trial, at its first step, with all its random states set from the seed.

    `teachers`: the weights of those that other trials have trained (`TrainedTeachers`); without
    them they teach with fresh weights, which takes as long. `ranks`: the processes that train it
    together, all of which build it at the same time.
    """
    with BUILDING:
        return _build(trial, device, teachers, ranks)


def _build(
    trial: TrialSpec,
    device: torch.device,
    teachers: Mapping[str, Mapping[int, StateDict]] | None,
    ranks: Ranks,
) -> Trainer:
    _set_global_state(trial)
    recipe = trial.recipe
    method = build_trial_method(trial)
    data = open_data(trial, device, method.views, ranks.part)
    networks = build_networks(trial, data.num_classes, device)
    maps = record_maps(trial, method, networks)
    attached = attach_modules(trial, method, networks, maps, data)
    trained = {
        name: [networks[name], *([attached[name]] if name in attached else [])]
        for name in networks
        if method.demand(name).trained
    }
    optimizers = {name: build_optimizer(own, trial.networks[name]) for name, own in trained.items()}
    # one network's weights must not depend on its peers', so this stream starts after all are built
    own_stream = () if ranks.leads else (ranks.rank,)
    torch.manual_seed(derive_seed(trial.seed, "dropout", *own_stream))
    return Trainer(
        networks=networks,
        method=method,
        optimizers=optimizers,
        schedulers={name: build_schedule(opt, recipe) for name, opt in optimizers.items()},
        data=data,
        epochs=recipe.epochs,
        device=device,
        precision=recipe.precision,
        evaluation_split="holdout" if recipe.holdout else "test",
        patience=recipe.patience,
        maps=maps,
        attached=attached,
        engine=ENGINES.load(recipe.engine),
        teachers=teachers,
        outputs=frozen_outputs(trial, method, networks, maps, data),
        snapshots=trial.snapshots,
        ranks=ranks,
    )


def frozen_outputs(
    trial: TrialSpec,
    method: Method,
    networks: Mapping[str, nn.Module],
    maps: MapRecorder | None,
    data: Pipeline,
) -> FrozenOutputs | None:
    """Where what networks that only teach say is kept; None where they must be asked each time.

    So they must where images are augmented, or are too many.
    """
    teaching = {n: net for n, net in networks.items() if not method.demand(n).trained}
    if not teaching or data.options.augmentation != "none" or method.views > 1:
        return None
    shapes = {} if maps is None else maps.shapes(networks, data.options.image_size)
    sizes = (data.train_size, data.num_classes)
    if FrozenOutputs.bytes_needed(*sizes, shapes, teaching) > MOST_BYTES:
        return None
    dtype = _weights_dtype(trial)
    return FrozenOutputs(teaching, maps, *sizes, shapes, data.device, dtype)


def build_trial_method(trial: TrialSpec) -> Method:
    """The method of a trial. Raises SpecError for a user's that cannot be built."""
    return build_method(
        trial.method.name,
        teachers=len(trial.teachers),
        students=len(trial.students),
        frozen=trial.frozen,
        network_stages={
            name: tuple(stages_of(spec.model, spec.origin)) for name, spec in trial.networks.items()
        },
        **{"temperature": trial.temperature} | dict(trial.method.settings),
    )


def record_maps(
    trial: TrialSpec, method: Method, networks: Mapping[str, nn.Module]
) -> MapRecorder | None:
    """What keeps the maps that the method asks for; None where it asks for none."""
    stages = {
        name: asked_stages(trial, method, name, network) for name, network in networks.items()
    }
    return MapRecorder(stages) if any(stages.values()) else None


def asked_stages(
    trial: TrialSpec, method: Method, name: str, network: nn.Module
) -> dict[str, nn.Module]:
    """The modules of a network whose maps the method asks for, by stage. Raises SpecError."""
    spec, size = trial.networks[name], trial.recipe.image_size or TRIED_SIZE
    first = next(network.parameters())
    images = torch.zeros(1, 3, size, size, device=first.device, dtype=first.dtype)
    return {
        stage: stage_of(spec.model, network, stage, spec.origin, images)
        for stage in method.demand(name).maps
    }


def attach_modules(
    trial: TrialSpec,
    method: Method,
    networks: Mapping[str, nn.Module],
    maps: MapRecorder | None,
    data: Pipeline,
) -> dict[str, nn.Module]:
    """The method's own modules, by the network that they are trained with, ready to train.

    They are drawn on the CPU from a stream of their own, as networks are.
    """
    shapes = {} if maps is None else maps.shapes(networks, data.options.image_size)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(trial.seed, "method", trial.method.name))
        surroundings = Surroundings(
            shapes, data.num_classes, data.train_size, data.device, data.train_labels
        )
        attached = dict(method.attach(surroundings))
    for module in attached.values():
        module.to(data.device, _weights_dtype(trial)).to(memory_format=torch.channels_last)
    return attached


def _weights_dtype(trial: TrialSpec) -> torch.dtype:
    return torch.float64 if trial.recipe.precision == "fp64" else torch.float32


def open_data(
    trial: TrialSpec, device: torch.device | str = "cpu", views: int = 1, part: Part = WHOLE
) -> Pipeline:
    """The data of a trial; raises DataError for what is missing, damaged or not allowed."""
    return open_pipeline(
        trial.dataset,
        batch_size=trial.recipe.batch_size,
        seed=trial.seed,
        holdout=trial.recipe.holdout,
        train_images=trial.recipe.train_images,
        image_size=trial.recipe.image_size,
        augmentation=trial.recipe.augmentation,
        views=views,
        device=device,
        path=trial.dataset_path,
        stand_in=trial.stand_in,
        origin=trial.data_origin,
        reproducible=trial.recipe.deterministic,
        part=part,
    )


def derive_seed(seed: int, *purpose: object) -> int:
    """A seed for one purpose, independent of every other purpose's.

    Parts are joined by colons, so that ("a", "b") and ("a:b",) are one purpose. Ours differ in
    their first part, which has no colon, and end in a count where a free text stands before it.
    """
    text = ":".join(map(str, (seed, *purpose)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1


def build_networks(
    trial: TrialSpec, num_classes: int, device: torch.device
) -> dict[str, nn.Module]:
    """The networks of a trial with their first weights.

    The weights depend on the seed, the network and its initialisation alone, whatever the method
    and the cohort. Where a cohort has one network several times, each further one starts from
    weights of its own (equal ones would stay equal); students are counted first, so that a student
    starts as it does alone.
    """
    networks: dict[str, nn.Module] = {}
    seen: Counter[tuple[str, str]] = Counter()
    for name in (*trial.students, *trial.teachers):
        spec = trial.networks[name]
        architecture = (spec.model, json.dumps(spec.arguments, sort_keys=True))
        networks[name] = build_network(trial, spec, seen[architecture], num_classes, device)
        seen[architecture] += 1
    return {name: networks[name] for name in trial.networks}


def build_network(
    trial: TrialSpec, spec: NetworkSpec, which: int, num_classes: int, device: torch.device
) -> nn.Module:
    """One network of a trial, `which` (from 0) of those alike, with its first weights, ready for
    the trial's engine. Raises SpecError for a network or weights from outside that do not fit.
    """
    # weights are drawn on the CPU, so that they are the same on every device
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(trial.seed, "weights", spec.model, which))
        network = build_model(spec.model, num_classes, spec.origin)
        initialize(network, spec.init)
    if spec.weights is not None:
        take_weights(network, spec, num_classes)
    network.to(device, _weights_dtype(trial)).to(memory_format=torch.channels_last)
    if outside(spec.model) is not None:
        try_out(network, spec.model, num_classes, trial.recipe.image_size or TRIED_SIZE)
    if spec.frozen:
        network.eval().requires_grad_(False)
    ENGINES.load(trial.recipe.engine).prepare(network)
    return network


def take_weights(network: nn.Module, spec: NetworkSpec, num_classes: int) -> None:
    """Give a new network the weights that its spec names. Raises SpecError."""
    assert spec.weights is not None, "asked of a network with weights"
    path = Path(spec.weights)
    found = digest_of_file(path)
    if found != spec.weights_digest:
        raise SpecError(
            f"{path}: has changed since the trial was made (its content was {spec.weights_digest}, "
            f"and is {found})"
        )
    tensors, _ = read_weights_file(path)
    called = f"{spec.label} with {num_classes} classes"
    if spec.new_head:
        tensors = with_new_head(network, tensors, num_classes, str(path))
    load_strictly(network, tensors, str(path), called)


def _set_global_state(trial: TrialSpec) -> None:
    """Set every process-wide switch of torch, also back: workers train one trial after another."""
    deterministic = trial.recipe.deterministic
    torch.use_deterministic_algorithms(deterministic)
    torch.backends.cudnn.benchmark = not deterministic
    torch.backends.cudnn.deterministic = deterministic
    torch.manual_seed(derive_seed(trial.seed, "global"))


def choose_device(resources: Resources | None = None) -> torch.device:
    """The GPU, where there is one and the trial may use it; else the CPU."""
    on_cpu = resources is not None and resources.on_cpu
    use_gpu = torch.cuda.is_available() and not on_cpu
    return torch.device("cuda" if use_gpu else "cpu")
