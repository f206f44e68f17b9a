"""`make chaos`: a sweep whose processes are killed at random, and whose files are torn."""
