"""Each process runs this as it begins: a worker's trial goes as far as its test lets it."""

import sys
import time

# in the folder of the workplace, for a trial's id: how many steps it may do, and has done where it
# is held; where there is no such file, nothing is held
STEPS, HELD = "steps-allowed-{}", "steps-done-{}"
LOOK_SECONDS = 0.02

if any("default_worker" in argument for argument in sys.orig_argv):
    from switokd.session.trial_session import TrialSession

    advance, checkpoint_if_due = TrialSession.advance, TrialSession._checkpoint_if_due

    def allowed(session):
        # WORKPLACE/runs/EXPERIMENT/trials/ID
        gate = session.folder.parents[3] / STEPS.format(session.folder.name)
        return int(gate.read_text()) if gate.exists() else None

    def held(self, seconds=None):
        steps = allowed(self)
        if steps is None:
            return advance(self, seconds)
        if self.trainer.step < steps:
            # a single step
            return advance(self, 0.0)
        done = self.folder.parents[3] / HELD.format(self.folder.name)
        done.write_text(str(self.trainer.step))
        time.sleep(LOOK_SECONDS)
        return None

    def all_but_the_last(self):
        """Who is killed when held has done a step after the last checkpoint."""
        if self.trainer.step != allowed(self):
            checkpoint_if_due(self)

    TrialSession.advance, TrialSession._checkpoint_if_due = held, all_but_the_last
