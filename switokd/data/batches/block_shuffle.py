"""An epoch's order that a disk can follow: shuffled blocks, then shuffled images within a pool.

The records are cut into blocks of neighbours (from a random first cut, so that the cuts differ from
epoch to epoch), the blocks are shuffled, and the images of each pool of consecutive blocks are
shuffled among themselves. A pool is read ahead block by block, in long sequential stretches, and
its images are then served in random order from memory.

Quality of the shuffle. A set of up to one pool (8,192 images) gets a uniform permutation. In a
larger one every image's place in the epoch is uniform, but two images of one block share a pool: in
ImageNet (1,281,167 images) a pair of images in the same batch of 256 comes from one block with
probability 63 / 8,191 = 0.77 %, against 0.005 % in a uniform permutation; that is 251 of a batch's
32,640 pairs. It does not show in the classes: records are stored in random order
(`lmdb_format`), so neighbours are of one class no more often than any two images.
"""

from __future__ import annotations

import torch
from torch import Tensor

BLOCK = 64
POOL_BLOCKS = 128
POOL = BLOCK * POOL_BLOCKS


def block_permutation(
    size: int, generator: torch.Generator, block: int = BLOCK, pool_blocks: int = POOL_BLOCKS
) -> Tensor:
    """A permutation of range(size), int64, that reads near-sequentially.

    Each pool is `pool_blocks` blocks of `block` neighbours (the first and last block of the range
    may be shorter).
    """
    first_cut = int(torch.randint(1, block + 1, (1,), generator=generator))
    later_starts = torch.arange(min(first_cut, size), size, block)
    starts = torch.cat((torch.zeros(1, dtype=torch.int64), later_starts))
    ends = torch.cat((starts[1:], torch.tensor([size])))
    chosen = torch.randperm(len(starts), generator=generator)
    lengths = (ends - starts)[chosen]
    pool_of_block = torch.arange(len(starts)) // pool_blocks
    within = torch.arange(size) - torch.repeat_interleave(lengths.cumsum(0) - lengths, lengths)
    order = torch.repeat_interleave(starts[chosen], lengths) + within
    pools = torch.repeat_interleave(pool_of_block, lengths)
    keys = pools + torch.rand(size, generator=generator, dtype=torch.float64)
    return order[keys.argsort()]
