"""An experiment: its file, checked as a whole, and the trials that it expands to.

`load_experiment` reads and checks a file. Of a grid every trial is known at once; with a search
over a space, trials are points of the space, each within one cell of the grid.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import ValidationError, model_validator

from switokd.files.yaml_file import apply_override, read_mapping
from switokd.spec.candidates import Candidate, Cell, cells, draw
from switokd.spec.experiment_file import ExperimentFile
from switokd.spec.grid import grid
from switokd.spec.search_rules import check_search
from switokd.spec.smoke import smoke_form
from switokd.spec.teaching import with_teachers
from switokd.spec.trial import TrialSpec
from switokd.user_modules import add_to_path
from switokd.validation import FieldError, SpecError, field_error

# points drawn before any result can guide the choice, as many as Optuna's sampler wants
FIRST_POINTS = 10


class Experiment(ExperimentFile):
    """A checked experiment; its trials are expanded when they are asked for."""

    @model_validator(mode="after")
    def _search_is_possible(self) -> Experiment:
        check_search(self)
        return self

    @cached_property
    def trials(self) -> tuple[TrialSpec, ...]:
        """Every trial once that is known before any is trained.

        Of a grid all, in the file's order, the seeds innermost; of a random search all; of a
        guided one the first ones. Those that train a teacher are there, named by the file or not,
        before those that it teaches. Raises FieldError where the space has too few points.
        """
        if self.search.draws:
            return with_teachers(candidate.trial for candidate in self.points.values())
        return with_teachers(grid(self))

    @cached_property
    def cells(self) -> tuple[Cell, ...]:
        """The cells of a search's grid."""
        return cells(self)

    @cached_property
    def points(self) -> dict[str, Candidate]:
        """The points of `trials` of a search, by trial id. Raises FieldError."""
        asked = self.search.trials or 0
        first = min(asked, FIRST_POINTS) if self.search.is_guided else asked
        found = {each.trial.trial_id: each for each in itertools.islice(self.draw(), first)}
        if len(found) < first:
            problem = f"must be at most {len(found)}, which is all that the space has"
            raise FieldError((("search", "trials"), f"{problem} (found {asked})"))
        return found

    def draw(self) -> Iterator[Candidate]:
        """Random points of the search, the same each time, from the first on."""
        return draw(self, self.cells)


def load_experiment(
    source: Path | str | Mapping[str, Any], overrides: Sequence[str] = ()
) -> Experiment:
    """Read, override and check an experiment: a YAML file, or a mapping of the same keys.

    `overrides` are `dotted.key=value`, the value in YAML. Modules that a file names are found
    beside it. Raises SpecError, one line per mistake,
    each naming the file and the key.
    """
    if isinstance(source, Mapping):
        data, name = copy.deepcopy(dict(source)), "the experiment"
    else:
        data, name = read_mapping(Path(source)), str(source)
        add_to_path(Path(source).absolute().parent)
    for override in overrides:
        apply_override(data, override)
    try:
        experiment = Experiment.model_validate(data)
        if experiment.smoke:
            experiment = smoke_form(experiment)
        _ = experiment.trials
    except ValidationError as error:
        lines = str(field_error(error)).splitlines()
    except FieldError as error:
        # points of a search are drawn after the file has been checked
        lines = str(error).splitlines()
    else:
        return experiment
    place = f"{name} with {' '.join(overrides)}" if overrides else name
    raise SpecError("\n".join(f"{place}: {line}" for line in lines))
