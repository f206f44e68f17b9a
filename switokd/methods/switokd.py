"""Switchable online knowledge distillation: the teacher waits where the student falls behind.

Source: method.md sections 2 and 3; Qian et al., ECCV 2022.
"""

from __future__ import annotations

from torch import Tensor

from switokd.methods.base import CohortStep, Link, Method
from switokd.methods.losses import Predictions
from switokd.methods.settings import SwitOKDSettings
from switokd.switching import SwitchState


class SwitOKD(Method):
    """The losses of method.md section 3, and each teacher's pause flag.

    A teacher learns from those of its students whose link is in learning mode; with every link in
    expert mode it is paused. A student's loss does not depend on any mode.
    """

    settings: SwitOKDSettings

    recordable = True

    def step(self, predictions: Predictions) -> CohortStep:
        links = {
            (teacher, student): predictions.link(
                teacher,
                student,
                self.settings.threshold,
                self.settings.require_better_teacher,
            )
            for teacher, student in self.links
        }
        losses = {name: self._teacher_loss(name, predictions, links) for name in self.teachers}
        losses |= {name: self._student_loss(name, predictions) for name in self.students}
        return CohortStep(
            losses=losses,
            cross_entropies={n: ce.detach() for n, ce in predictions.cross_entropies.items()},
            links=links,
            pause_flags={name: self._all_expert(name, links) for name in self.teachers},
        )

    def _student_loss(self, student: str, predictions: Predictions) -> Tensor:
        loss = predictions.cross_entropies[student]
        for target in self.networks:
            if target != student:
                loss = loss + self.settings.alpha * predictions.imitation(target, student)
        return loss

    def _teacher_loss(
        self, teacher: str, predictions: Predictions, links: dict[Link, SwitchState]
    ) -> Tensor:
        loss = predictions.cross_entropies[teacher]
        for student in self.students:
            learning = links[teacher, student].expert.logical_not()
            # the mode times the loss first: a bool times a float alone is rounded to float32
            imitation = learning * predictions.imitation(student, teacher)
            loss = loss + self.settings.beta * imitation
        for peer in self.teachers:
            if peer != teacher:
                loss = loss + self.settings.beta * predictions.imitation(peer, teacher)
        return loss

    def _all_expert(self, teacher: str, links: dict[Link, SwitchState]) -> Tensor:
        flag = links[teacher, self.students[0]].expert
        for student in self.students[1:]:
            flag = flag & links[teacher, student].expert
        return flag
