"""Files: where checkpoints lie, who holds a folder, strict YAML."""
