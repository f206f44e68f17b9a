"""One trial's life: its state and migrations, checkpoints, continuation and end."""
