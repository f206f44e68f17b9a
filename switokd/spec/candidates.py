"""The points of a search as trials: each lies within one cell of the experiment's grid."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from pydantic import ValidationError

from switokd.spec.experiment_file import ExperimentFile
from switokd.spec.grid import grid, single_choices
from switokd.spec.space import SearchPoint, choices_of
from switokd.spec.trial import TrialSpec
from switokd.validation import FieldError, field_error

# a space that gives no new point so often in a row has no more of them
DRAWS_IN_VAIN = 1000


@dataclass(frozen=True)
class Candidate:
    """A point of a search within a cell of the experiment's grid, and the trial that it makes."""

    trial: TrialSpec
    cell: int
    point: SearchPoint


@dataclass(frozen=True)
class Cell:
    """One recipe, cohort, method and temperature of an experiment whose settings are searched."""

    file: ExperimentFile

    def at(self, point: SearchPoint) -> TrialSpec:
        """The trial of a point in this cell. Raises FieldError."""
        data = self.file.model_dump(exclude_unset=True, exclude={"search", "smoke"})
        # known to be sound, and what identifies it found once
        data["dataset"] = self.file.dataset
        data["recipe"], method = dict(data["recipe"][0]), self.file.methods[0]
        data["methods"] = [{method.name: dict(method.settings) | method.taught_by}]
        for key, value in point.items():
            group, _, name = key.partition(".")
            if group == "temperature":
                data["temperatures"] = [value]
            elif group == "recipe":
                data["recipe"][name] = value
            elif group == "method":
                data["methods"][0][method.name][name] = value
            else:
                side = "teachers" if group.startswith("T") else "students"
                data["cohorts"][0][side][int(group[1:]) - 1][name] = value
        try:
            changed = ExperimentFile.model_validate(data)
        except ValidationError as error:
            raise field_error(error) from None
        (trial,) = grid(changed.with_changes(smoke=self.file.smoke))
        return trial


def cells(file: ExperimentFile) -> tuple[Cell, ...]:
    """The cells of a search's grid; what the space searches makes none."""
    found: dict[str, Cell] = {}
    corner = corner_of(file)
    for choice in single_choices(file):
        cell = Cell(choice)
        found.setdefault(cell.at(corner).trial_id, cell)
    return tuple(found.values())


def corner_of(file: ExperimentFile) -> SearchPoint:
    """The point of the space with the first value of each key."""
    return {key: file.search.extremes(key)[0] for key in file.search.space}


def size_of(file: ExperimentFile, cell_count: int) -> float:
    """At most so many different trials has the space, in all of its cells."""
    return cell_count * math.prod(choices_of(*item) for item in file.search.space.items())


def draw(file: ExperimentFile, its_cells: tuple[Cell, ...]) -> Iterator[Candidate]:
    """Random points, each trial once, until the space has no more. Raises FieldError."""
    known: set[str] = set()
    in_vain = 0
    for number, point in file.search.draw(len(its_cells)):
        try:
            trial = its_cells[number].at(point)
        except FieldError as error:
            problem = f"its point {point} is no trial: {error}"
            raise FieldError((("search", "space"), problem)) from None
        if trial.trial_id not in known:
            known.add(trial.trial_id)
            in_vain = 0
            yield Candidate(trial, number, point)
        elif (in_vain := in_vain + 1) == DRAWS_IN_VAIN:
            return
