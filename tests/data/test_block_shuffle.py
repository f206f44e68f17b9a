"""The near-sequential order: a permutation, whose quality is as its module states."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from switokd.data.batches.block_shuffle import BLOCK, POOL, block_permutation


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@settings(max_examples=60, deadline=None)
@given(
    size=st.integers(1, 500),
    block=st.integers(1, 20),
    pool_blocks=st.integers(1, 9),
    seed=st.integers(0, 99),
)
def test_every_record_comes_once(size: int, block: int, pool_blocks: int, seed: int) -> None:
    order = block_permutation(size, _generator(seed), block, pool_blocks)
    assert order.dtype == torch.int64
    assert sorted(order.tolist()) == list(range(size))


def test_reading_is_near_sequential() -> None:
    def neighbours(order: np.ndarray) -> float:
        """Share of a pool's records whose successor in the file is in the same pool."""
        pools = np.sort(order.reshape(-1, 512), axis=1)
        return float((np.diff(pools, axis=1) == 1).mean())

    blocks = block_permutation(8192, _generator(0), block=32, pool_blocks=16).numpy()
    uniform = torch.randperm(8192, generator=_generator(0)).numpy()
    assert neighbours(blocks) > 0.85
    assert neighbours(uniform) < 0.1


def test_a_set_of_one_pool_is_shuffled_uniformly() -> None:
    size = 8
    generator = _generator(1)
    orders = np.stack([block_permutation(size, generator).numpy() for _ in range(2000)])
    counts = np.stack([np.bincount(column, minlength=size) for column in orders.T])
    assert np.abs(counts - 250).max() < 5 * np.sqrt(250)
    followed = np.mean(orders[:, 1:] == orders[:, :-1] + 1)
    assert abs(followed - 1 / size) < 0.02


def test_places_in_the_epoch_are_uniform() -> None:
    size, generator = 3000, _generator(2)
    orders = [block_permutation(size, generator, 16, 4).numpy() for _ in range(60)]
    places = np.stack([np.argsort(order) for order in orders])
    assert abs(places[:, 0].mean() / size - 0.5) < 0.15
    assert abs(places[:, -1].mean() / size - 0.5) < 0.15
    correlation = np.corrcoef(orders[0], np.arange(size))[0, 1]
    assert abs(correlation) < 0.1


def test_cuts_differ_from_epoch_to_epoch() -> None:
    generator = _generator(3)
    starts = {
        int(np.sort(block_permutation(640, generator, 64, 1).numpy()[:64])[0]) % 64
        for _ in range(20)
    }
    assert len(starts) > 5


@pytest.mark.slow
def test_the_stated_quality_holds_for_imagenet() -> None:
    size, batch = 1_281_167, 256
    order = block_permutation(size, _generator(4)).numpy()
    first_cut = int(torch.randint(1, BLOCK + 1, (1,), generator=_generator(4)))
    whole = order[: size // POOL * POOL].reshape(-1, batch)
    blocks = (whole - first_cut) // BLOCK
    same = 0
    for row in blocks:
        counts = np.unique(row, return_counts=True)[1]
        same += int((counts * (counts - 1) // 2).sum())
    assert abs(same / len(blocks) - 251) < 5
