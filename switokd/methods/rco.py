"""Route-constrained optimization: the student follows its teacher's training, easy to hard.

Source: method.md section 4; Jin et al., Knowledge Distillation via Route Constrained Optimization,
ICCV 2019.
"""

from __future__ import annotations

from switokd.methods.kd import KD
from switokd.methods.settings import RCOSettings


class RCO(KD):
    """`kd`, taught in each stage by what the teacher was at the stage's end.

    Which weights teach when is the trial's business (`RCOSettings.teacher_epochs`).
    """

    settings: RCOSettings
