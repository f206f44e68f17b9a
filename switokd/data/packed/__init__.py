"""Images packed as one LMDB: writing, checking, reading."""
