"""Trained networks: their weights, where they look, and their export."""
