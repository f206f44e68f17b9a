"""Batches for training: pipelines, augmentation, random draws."""
