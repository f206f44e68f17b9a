"""Stratified splits: disjoint, complete, in proportion, and the same for ever."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from switokd.data.splits import balanced_subset, stratified_split
from switokd.validation import DataError


@settings(max_examples=50, deadline=None)
@given(
    labels=st.lists(st.integers(0, 4), min_size=1, max_size=200),
    share=st.floats(0.05, 0.95),
)
def test_splits_partition_in_proportion(labels: list[int], share: float) -> None:
    array = np.array(labels)
    try:
        kept, aside = stratified_split(array, share)
    except DataError:
        assert all(min(round(share * n), n - 1) == 0 for n in np.bincount(array) if n)
        return
    assert sorted([*kept, *aside]) == list(range(len(labels)))
    for label in set(labels):
        members = (array == label).sum()
        assert (array[aside] == label).sum() == min(round(share * members), members - 1)
        assert label in array[kept]


def test_a_larger_share_contains_a_smaller_one() -> None:
    labels = np.arange(300) % 7
    _, small = stratified_split(labels, 0.1)
    _, large = stratified_split(labels, 0.3)
    assert set(small) < set(large)


def test_the_split_never_changes() -> None:
    _, aside = stratified_split(np.arange(40) % 4, 0.2)
    assert aside.tolist() == [4, 5, 14, 27, 30, 31, 32, 33]


def test_no_share_sets_nothing_aside() -> None:
    kept, aside = stratified_split(np.arange(10) % 2, 0.0)
    assert (len(kept), len(aside)) == (10, 0)


def test_a_share_too_small_for_any_image_is_refused() -> None:
    with pytest.raises(DataError, match="sets no image aside"):
        stratified_split(np.arange(10) % 2, 0.01)


@settings(max_examples=50, deadline=None)
@given(
    labels=st.lists(st.integers(0, 4), min_size=2, max_size=200),
    share=st.floats(0.01, 1.0),
)
def test_a_subset_has_as_many_images_of_every_class(labels: list[int], share: float) -> None:
    array = np.array(labels)
    index = np.arange(len(array))[::2]
    count = max(1, int(share * len(index)))
    chosen = balanced_subset(array, index, count)
    assert len(set(chosen)) == count
    assert set(chosen) <= set(index)
    assert (np.diff(chosen) > 0).all()
    there = np.bincount(array[index], minlength=5)
    taken = np.bincount(array[chosen], minlength=5)
    # a class has fewer than another only where it has no more, or the count does not divide
    for label in range(5):
        assert taken[label] == there[label] or taken[label] >= taken.max() - 1
    smaller = balanced_subset(array, index, max(1, count // 2))
    assert set(smaller) <= set(chosen)


def test_the_subset_never_changes() -> None:
    chosen = balanced_subset(np.arange(40) % 4, np.arange(40), 8)
    assert chosen.tolist() == [4, 5, 14, 27, 30, 31, 32, 33]


def test_more_images_than_there_are_are_refused() -> None:
    with pytest.raises(DataError, match="train_images 11: only 10 images"):
        balanced_subset(np.arange(20) % 2, np.arange(10), 11)
