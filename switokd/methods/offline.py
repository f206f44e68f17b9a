"""What the offline methods have in common: teachers have been trained before, and only teach."""

from __future__ import annotations

from abc import abstractmethod

from torch import Tensor

from switokd.methods.base import CohortStep, Demand, Method
from switokd.methods.losses import Predictions


class OfflineMethod(Method):
    """Each student learns from labels and from every teacher; teachers stay as they are.

    Source: method.md section 4.
    """

    def step(self, predictions: Predictions) -> CohortStep:
        losses = {student: self.student_loss(predictions, student) for student in self.students}
        return self.unswitched(predictions, losses)

    @abstractmethod
    def student_loss(self, predictions: Predictions, student: str) -> Tensor:
        """The total loss of one student."""

    def demand(self, network: str) -> Demand:
        return Demand(trained=network in self.students, maps=self.maps_of(network))

    def maps_of(self, network: str) -> tuple[str, ...]:
        """The stages of a network whose maps the loss is made of."""
        return ()
