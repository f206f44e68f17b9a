"""What a sweep says of an experiment as it begins and as it ends."""

from __future__ import annotations

from rich.console import Console

from switokd.spec.experiment import Experiment
from tuning.changed_trials import why_trained
from tuning.plan import Plan


def print_plan(experiment: Experiment, plan: Plan, console: Console) -> None:
    """How many trials there are, and a warning where the search is tuned on the test set."""
    longer = len(plan.continues)
    trials = "1 trial" if plan.total == 1 else f"{plan.total} trials"
    go_on = f", {longer} of them from where a shorter run ended" if longer else ""
    console.print(
        f"{experiment.name}: {trials}, {len(plan.values)} finished before, {plan.to_train} to "
        f"train{go_on}",
        highlight=False,
    )
    waiting = sum(not plan.values.keys() >= set(t.trained_by.values()) for t in plan.missing)
    if waiting:
        teachers = sum(trial.trial_id in plan.teaching for trial in plan.missing)
        console.print(
            f"  {teachers} of them {'trains a teacher' if teachers == 1 else 'train teachers'}; "
            + (
                "a student begins when its teacher is done"
                if waiting == 1
                else f"{waiting} students begin each when its own teacher is done"
            ),
            highlight=False,
            soft_wrap=True,
        )
    labels = {trial.trial_id: trial.label for trial in plan.trials}
    again = [f"{key} {labels[key]} again: {reason}" for key, reason in plan.again.items()]
    for line in [*again, *why_trained(plan.changed)]:
        console.print(f"  {line}", highlight=False, soft_wrap=True)
    print_what_tunes_it(experiment, console)


def print_what_tunes_it(experiment: Experiment, console: Console) -> None:
    """A warning where the search is tuned on what is also reported."""
    if tuned_on_the_test_set(experiment):
        console.print(
            f"recipe.holdout is 0: {experiment.search.metric} is measured on the test set, on "
            "which this search is tuned",
            highlight=False,
            soft_wrap=True,
        )


def print_best(experiment: Experiment, plan: Plan, console: Console) -> None:
    """The best point of a search in one line."""
    search = experiment.search
    best = plan.best(search.mode)
    if best is None:
        return
    # teachers are trained for it, and no points of it
    finished = sum(plan.values.get(key) is not None for key in plan.candidates)
    candidate = plan.candidates[best]
    values = "  ".join(f"{key}={value}" for key, value in candidate.point.items())
    if search.is_population:
        values = f"began with {values}"
    console.print(
        f"best of {finished}: {search.metric} {plan.values[best]:.6g}  {best}  "
        f"{candidate.trial.pair} {candidate.trial.method.name}  {values}",
        highlight=False,
        soft_wrap=True,
    )


def tuned_on_the_test_set(experiment: Experiment) -> bool:
    """Whether the search judges by what is also reported as the result."""
    search = experiment.search
    guided = search.draws or search.judges_early
    judged = search.metric.startswith(("val_", "best_val_", "last_val_", "agreement/"))
    return guided and judged and any(not recipe.holdout for recipe in experiment.recipe)
