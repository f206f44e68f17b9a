"""One trial's training: the loop, what it records, and the objects that it is built of."""

import os

# cuBLAS reads this once, when a process first uses it, and a worker may train a deterministic trial
# after others; without it, deterministic mode raises
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
