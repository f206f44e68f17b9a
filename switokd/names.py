"""The names of what a trial leaves in MLflow: metrics, tags, artifacts. Imports nothing of ours."""

from __future__ import annotations

# metrics, per epoch and network
VAL_TOP1 = "val_top1"
VAL_TOP5 = "val_top5"
VAL_LOSS = "val_loss"
VAL_CALIBRATION_ERROR = "val_calibration_error"
TRAIN_LOSS = "train_loss"
CROSS_ENTROPY = "ce"
LEARNING_RATE = "lr"
PER_NETWORK = (
    *(VAL_TOP1, VAL_TOP5, VAL_LOSS, VAL_CALIBRATION_ERROR),
    *(TRAIN_LOSS, CROSS_ENTROPY, LEARNING_RATE),
)
# per epoch and link; per epoch
AGREEMENT = "agreement"
IMAGES_PER_SECOND = "images_per_second"
# per epoch, of the machine; MLflow shows what begins so under System metrics
CORES_BUSY = "system/process_cores_busy"
PROCESS_MEMORY_MIB = "system/process_memory_mib"
GPU_MEMORY_MIB = "system/gpu_memory_mib"
# per window of steps and link; per window and teacher
GAP, THRESHOLD, EXPERT = "gap", "threshold", "expert"
TIMELINE = (GAP, THRESHOLD, EXPERT)
# of a method without a switch: the share of steps in which one would have been in expert mode
WOULD_BE_EXPERT = "would_be_expert"
PAUSED = "paused"
# once, at a trial's end
BEST_VAL_TOP1 = "best_val_top1"
LAST_VAL_TOP1 = "last_val_top1"
TEST_TOP1 = "test_top1"
TEST_TOP1_BEST = "test_top1_best"
EXPERT_SHARE = "expert_share"
WOULD_BE_EXPERT_SHARE = "would_be_expert_share"
PAUSED_SHARE = "paused_share"
TRAIN_SECONDS = "train_seconds"
PEAK_MEMORY_MIB = "peak_memory_mib"
# of each network, for one image
PARAMETERS = "parameters"
MULTIPLY_ADDS = "multiply_adds"
MILLISECONDS_PER_IMAGE = "milliseconds_per_image"
SUMMARY = frozenset(
    {
        *(BEST_VAL_TOP1, LAST_VAL_TOP1, TEST_TOP1, TEST_TOP1_BEST),
        *(EXPERT_SHARE, WOULD_BE_EXPERT_SHARE, PAUSED_SHARE, TRAIN_SECONDS, PEAK_MEMORY_MIB),
        *(PARAMETERS, MULTIPLY_ADDS, MILLISECONDS_PER_IMAGE),
    }
)
# what a population-based search has changed, by the key of the changed setting
CHANGED_SETTING = "pbt"

# tags
TRIAL_ID = "switokd.trial_id"
TOPOLOGY = "switokd.topology"
PAIR = "switokd.pair"
METHOD = "switokd.method"
VARIANT = "switokd.variant"
GIT_COMMIT = "switokd.git_commit"
SWEEP = "switokd.sweep"
FAILURE = "switokd.failure"
STOPPED = "switokd.stopped"
POINT = "switokd.point"
CHANGES = "switokd.pbt"
# of a trial that teaches others: the epochs whose weights it kept, JSON
SNAPSHOTS = "switokd.snapshots"
CONTINUED_FROM = "switokd.continued_from"
DEVICE = "switokd.device"
THREADS = "switokd.threads"
HOLDER = "switokd.holder"
# of a sweep's run while it is at work: trials in each state and seconds left, JSON
STANDING = "switokd.standing"
HOST = "switokd.host"
VERSION_PREFIX = "switokd.version."
TAG_PREFIX = "switokd."
# MLflow's own
PARENT = "mlflow.parentRunId"
RUN_NAME = "mlflow.runName"
NOTE = "mlflow.note.content"
USER = "mlflow.user"
SOURCE_NAME = "mlflow.source.name"
SOURCE_TYPE = "mlflow.source.type"
SOURCE_COMMIT = "mlflow.source.git.commit"

# artifacts
TIMELINE_FILE = "timeline.parquet"
TIMELINE_PICTURE = "timeline.png"
SPEC_FILE = "spec.yaml"
WEIGHTS_FOLDER = "weights"
EXPLAIN_FOLDER = "explain"
# of a sweep's run
COMPARISON_FILE = "comparison.csv"
COMPARISON_FIGURE = "comparison.html"
EXPERIMENT_FILE = "experiment.yaml"
HEAT_MAPS_FILE = "heat_maps.npz"
AGREEMENT_FILE = "agreement.json"
# in the file of heat maps, before the name of the network that predicts
PREDICTED = "predicted/"


def metric(quantity: str, *subject: str) -> str:
    """`val_top1/S1`, `gap/T1-S1`: a quantity of a network or of a link."""
    return f"{quantity}/{'-'.join(subject)}" if subject else quantity


def quantity_of(name: str) -> str:
    """`val_top1` of `val_top1/S1`."""
    return name.partition("/")[0]
