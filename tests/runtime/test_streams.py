"""Counter-based random numbers: the published test vectors, and independence of how they are asked for."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from caloforge.errors import ConditionError
from caloforge.runtime.streams import checked_seed, normals, philox, stream_id, uniforms

# Random123 1.14, tests/kat_vectors, philox4x32 10 rounds: counter, key, result
VECTORS = [
    ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
]


def words(text: str) -> list[int]:
    return [int(word, 16) for word in text.split()]


@pytest.mark.parametrize(("counter", "key", "expected"), VECTORS)
def test_published_vectors(counter: str, key: str, expected: str) -> None:
    first, second = words(key)
    result = philox(np.array([words(counter)], dtype=np.uint64), (first, second))
    assert result.dtype == np.uint32
    assert result[0].tolist() == words(expected)


@pytest.mark.parametrize("draw", [normals, uniforms])
@given(
    seed=st.integers(0, 2**64 - 1),
    showers=st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=20),
    n=st.integers(1, 40),
)
def test_a_shower_has_its_numbers_in_any_company(draw, seed: int, showers: list[int], n: int) -> None:
    together = draw(seed, np.array(showers, dtype=np.uint64), "noise", n)
    assert together.shape == (len(showers), n)
    for row, shower in zip(together, showers, strict=True):
        alone = draw(seed, np.array([shower], dtype=np.uint64), "noise", n)[0]
        assert np.array_equal(row, alone)
    longer = draw(seed, np.array(showers, dtype=np.uint64), "noise", n + 3)
    assert np.array_equal(longer[:, :n], together)


def test_seeds_streams_and_showers_differ() -> None:
    showers = np.arange(100)
    first = uniforms(1, showers, "a", 8)
    assert len(np.unique(first)) == first.size
    for other in (
        uniforms(2, showers, "a", 8),
        uniforms(1, showers, "b", 8),
        uniforms(1, showers + 2**32, "a", 8),
    ):
        assert not np.isin(other, first).any()
    assert stream_id("a") != stream_id("b")


def test_distributions() -> None:
    u = uniforms(7, np.arange(1000), "noise", 200)
    assert u.min() > 0
    assert u.max() < 1
    assert abs(u.mean() - 0.5) < 4 / np.sqrt(12 * u.size)
    x = normals(7, np.arange(1000), "noise", 201).astype(np.float64)
    assert np.isfinite(x).all()
    assert abs(x.mean()) < 4 / np.sqrt(x.size)
    assert abs(x.var() - 1) < 4 * np.sqrt(2 / x.size)
    assert abs((x**4).mean() - 3) < 4 * np.sqrt(96 / x.size)
    correlation = np.corrcoef(x[:, :8].T) - np.eye(8)
    assert np.abs(correlation).max() < 5 / np.sqrt(1000)
    assert normals(7, [], "noise", 5).shape == (0, 5)
    assert normals(7, [1, 2], "noise", 0).shape == (2, 0)


@pytest.mark.parametrize("seed", [1.5, 2.0, "1", None, -1, 2**64])
def test_what_is_no_seed_is_refused(seed: object) -> None:
    with pytest.raises(ConditionError, match="a whole number from 0 to"):
        checked_seed(seed)


def test_whole_numbers_of_any_type_are_seeds() -> None:
    assert checked_seed(np.uint64(2**64 - 1)) == 2**64 - 1
    assert type(checked_seed(np.int32(3))) is int
