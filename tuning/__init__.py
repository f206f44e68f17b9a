"""Many trials: expand, schedule on Ray Tune, resume, place, and show how they go."""

from tuning.workers.ray_environment import prepare

# before anything here imports Ray, which reads its authentication mode only once
prepare()
