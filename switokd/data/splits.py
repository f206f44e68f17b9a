"""Fixed stratified splits: the same images on every machine, for every seed."""

from __future__ import annotations

import numpy as np

from switokd.validation import DataError

# RandomState's stream is frozen by NumPy's compatibility policy; default_rng's is not
SPLIT_SEED = 20220704


def stratified_split(labels: np.ndarray, share: float) -> tuple[np.ndarray, np.ndarray]:
    """Indices (kept, set_aside) of a split that takes `share` of every class; both ascending.

    labels: int (N,). A class of n images gives round(share * n) of them, but never its last one;
    a smaller share's images are among a larger share's. Raises DataError if nothing is set aside
    although share > 0.
    """
    order = np.random.RandomState(SPLIT_SEED).permutation(len(labels))
    shuffled_labels = labels[order]
    aside: list[np.ndarray] = []
    for label in np.unique(labels):
        members = order[shuffled_labels == label]
        aside.append(members[: min(round(share * len(members)), len(members) - 1)])
    set_aside = np.sort(np.concatenate(aside)) if aside else np.empty(0, np.int64)
    if share > 0 and len(set_aside) == 0:
        raise DataError(f"a share of {share} of {len(labels)} images sets no image aside")
    kept = np.setdiff1d(np.arange(len(labels)), set_aside, assume_unique=True)
    return kept, set_aside


def balanced_subset(labels: np.ndarray, index: np.ndarray, count: int) -> np.ndarray:
    """`count` of the images `index` (ascending indices into `labels`), as many of every class.

    What does not divide evenly goes to the first classes, and what a class lacks to the others. A
    smaller subset's images are among a larger one's. Ascending; raises DataError for more images
    than there are.
    """
    if count > len(index):
        raise DataError(f"train_images {count}: only {len(index)} images are there to train on")
    order = np.random.RandomState(SPLIT_SEED).permutation(len(labels))
    place = np.empty(len(labels), np.int64)
    place[order] = np.arange(len(labels))
    shuffled = index[np.argsort(place[index], kind="stable")]
    own = labels[shuffled]
    # how many images of its class come before an image, which classes take in turns
    turn = np.empty(len(shuffled), np.int64)
    for label in np.unique(own):
        members = np.flatnonzero(own == label)
        turn[members] = np.arange(len(members))
    chosen = shuffled[np.lexsort((own, turn))[:count]]
    return np.sort(chosen)
