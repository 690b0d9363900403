"""Shards cover a production, each number once, and what names them is checked."""

from itertools import pairwise

import pytest

from caloforge.errors import ConditionError
from caloforge.runtime.host import host_class
from caloforge.runtime.shards import Shard


@pytest.mark.parametrize(("n", "of"), [(1, 1), (10, 3), (1000, 7), (7, 7), (10**12, 999)])
def test_shards_follow_one_another(n: int, of: int) -> None:
    spans = [Shard(k, of).span(n) for k in range(1, of + 1)]
    assert spans[0][0] == 0
    assert spans[-1][1] == n
    assert all(a[1] == b[0] for a, b in pairwise(spans))
    sizes = {stop - start for start, stop in spans}
    assert max(sizes) - min(sizes) <= 1 <= min(sizes)


def test_names() -> None:
    assert str(Shard.parse("17/1000")) == "17/1000"
    assert Shard.parse("17/1000").word == "shard0017of1000"
    assert Shard.parse(None) == Shard()
    assert Shard().word == ""


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("0/4", "1/N"),
        ("5/4", "1/N"),
        ("", "K/N"),
        ("1", "K/N"),
        ("-1/3", "K/N"),
        ("1/2/3", "K/N"),
        ("1.5/2", "K/N"),
    ],
)
def test_no_such_shard(text: str, says: str) -> None:
    with pytest.raises(ConditionError, match=says):
        Shard.parse(text)
    with pytest.raises(ConditionError, match="would be empty"):
        Shard(1, 5).span(4)


def test_the_class_of_a_host_knows_what_was_switched_off() -> None:
    plain = host_class({})
    assert plain == host_class({"HOME": "/"})
    assert host_class({"ATEN_CPU_CAPABILITY": "avx2"}) == f"{plain} ATEN_CPU_CAPABILITY=avx2"
