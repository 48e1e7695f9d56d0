"""How a draw is shared out."""

from __future__ import annotations

import numpy as np
import pytest

from distdqn.runtime.learning import split

SHARES = np.array([0.4, 0.1, 0.0, 0.3, 0.2])


@pytest.mark.parametrize("most", [1, 3, 5])
@pytest.mark.parametrize("size", [32, 7])
def test_every_shard_gives_its_share_and_no_more_than_so_many_are_asked(size: int, most: int) -> None:
    rng, draws = np.random.default_rng(1), 4000
    sizes = np.array([split(rng, SHARES, size, 2, most) for _ in range(draws)])
    assert sizes.shape == (draws, 2, 5)
    assert (sizes.sum(2) == size).all()
    assert sizes.min() >= 0
    asked = np.count_nonzero(sizes.sum(1), axis=1)
    assert asked.max() <= most
    # a mean of 4000: within five standard deviations, that of one draw being at most size / 2
    assert np.abs(sizes.mean((0, 1)) - size * SHARES).max() < 5 * size / 2 / np.sqrt(draws)
    assert sizes[:, :, 2].sum() == 0


def test_few_shards_are_drawn_from_as_one_would_be() -> None:
    expected = np.random.default_rng(2).multinomial(32, SHARES, size=4)
    assert (split(np.random.default_rng(2), SHARES, 32, 4, 5) == expected).all()
