"""A data set of one's own: a callable that gives a training and a test set of (image, label)."""

from __future__ import annotations

import numpy as np
from sklearn.datasets import load_digits

CLASSES = 10
TEST_IMAGES = 400


class Labelled:
    """What torch calls a map-style data set: a length, and an image and its label by number."""

    classes = tuple(f"digit {number}" for number in range(CLASSES))

    def __init__(self, images: np.ndarray, labels: np.ndarray) -> None:
        self.images, self.labels = images, labels

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, number: int) -> tuple[np.ndarray, int]:
        # uint8, or floats from 0 to 1; (H, W), (H, W, 3), a Pillow image, or a tensor (C, H, W)
        return self.images[number], int(self.labels[number])


def make(noise: float = 0.0) -> tuple[Labelled, Labelled]:
    """Scikit-learn's digits, with a share of the training labels drawn anew at random."""
    data = load_digits()
    images, labels = data.images / 16, data.target
    train = Labelled(images[TEST_IMAGES:], labels[TEST_IMAGES:].copy())
    random = np.random.default_rng(0)
    wrong = random.random(len(train)) < noise
    train.labels[wrong] = random.integers(0, CLASSES, wrong.sum())
    return train, Labelled(images[:TEST_IMAGES], labels[:TEST_IMAGES])
