import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from caloforge.errors import ConditionError
from caloforge.generation import draw_noise, noise_stream, normals
from caloforge.generation.noise import torch_normals
from caloforge.runtime import streams

NUMBERS = [0, 5, 2**32 - 1, 2**32, 2**40 + 17, 2**63 - 1]


@given(
    st.integers(-(2**63), 2**64 - 1),
    st.lists(st.integers(0, 2**63 - 1), min_size=1, max_size=5),
    st.text(max_size=5),
    st.integers(0, 70),
)
@settings(max_examples=60, deadline=None)
def test_the_numbers_are_those_of_the_streams(seed, numbers, stream, k):
    expected = streams.normals(seed, np.array(numbers, dtype=np.uint64), stream, k)
    assert np.array_equal(normals(seed, numbers, stream, k), expected)
    got = torch_normals(seed, torch.tensor(numbers), {"none": 0, "other": 5, stream: k})[stream]
    assert got.dtype == torch.float32
    assert got.shape == expected.shape
    np.testing.assert_allclose(got.numpy(), expected, atol=3e-6, rtol=0)


def test_chunks_and_order_do_not_matter(monkeypatch):
    whole = normals(3, NUMBERS, "x", 1003)
    monkeypatch.setattr("caloforge.generation.noise.BLOCKS_AT_ONCE", 300)
    cut = torch_normals(3, torch.tensor(NUMBERS), {"x": 1003})["x"]
    assert torch.allclose(whole, cut, atol=3e-6)
    assert torch.allclose(normals(3, NUMBERS[::-1], "x", 1003), whole.flip(0), atol=1e-6)


def test_it_is_standard_normal_and_independent():
    x = normals(1, np.arange(4000), "a", 50).double()
    assert abs(float(x.mean())) < 5 / np.sqrt(x.numel())
    assert abs(float(x.var()) - 1) < 5 * np.sqrt(2 / x.numel())
    assert abs(float((x**4).mean()) - 3) < 5 * np.sqrt(96 / x.numel())
    correlation = torch.corrcoef(x.T) - torch.eye(50)
    assert correlation.abs().max() < 5.5 / np.sqrt(4000)
    other = normals(2, np.arange(4000), "a", 50).double()
    assert abs(float((x * other).mean())) < 5 / np.sqrt(x.numel())


def test_named_parts_have_their_own_numbers_and_shapes():
    noise = draw_noise({"a": (2, 3), "b": (6,), "none": (0,)}, 7, torch.arange(4))
    assert {name: tuple(tensor.shape) for name, tensor in noise.items()} == {
        "a": (4, 2, 3),
        "b": (4, 6),
        "none": (4, 0),
    }
    assert not torch.equal(noise["a"].reshape(4, 6), noise["b"])
    expected = streams.normals(7, np.arange(4), noise_stream("b"), 6)
    np.testing.assert_allclose(noise["b"].numpy(), expected, atol=3e-6)


def test_negative_shower_numbers_are_refused():
    with pytest.raises(ConditionError, match="got -1"):
        normals(1, [3, -1], "a", 2)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_gpu_gives_the_same_numbers():
    here, there = (normals(11, NUMBERS, "x", 101, device) for device in ("cpu", "cuda"))
    assert torch.allclose(here, there.cpu(), atol=3e-6)
