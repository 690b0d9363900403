"""Laws of the transformer's attention: both ways to compute it agree, positions act by differences alone."""

import pytest
import torch
from torch.nn import functional as F

from caloforge.detector.mesh import CylinderMesh
from caloforge.models.diffusion.backbones import transformer
from caloforge.models.diffusion.backbones.transformer import (
    Transformer,
    TransformerSettings,
    _rotate,
    _rotations,
)

GRID = (3, 4, 2)


def rotated(heads: int = 2, size: int = 12):
    """The same numbers at every token, turned: (T, H, d) float64, and the numbers."""
    torch.manual_seed(0)
    cosines, sines = (table.double() for table in _rotations(GRID, size, True))
    x = torch.randn(1, 1, 1, heads, size, dtype=torch.float64).expand(1, 24, 1, heads, size)
    return _rotate(x, cosines, sines)[0, :, 0], x[0, :, 0]


def test_the_turned_product_of_a_token_with_itself_is_that_of_the_formula():
    turned, x = rotated()
    torch.testing.assert_close((turned * turned).sum(-1), (x * x).sum(-1) / 12**0.5, rtol=1e-6, atol=0)


def test_scores_depend_on_differences_of_position_and_phi_is_periodic():
    turned, _ = rotated()
    scores = torch.einsum("ihd,jhd->hij", turned, turned).view(2, *GRID, *GRID)
    around = scores.roll((1, 1), dims=(2, 5))  # both by one token in φ, across its end
    torch.testing.assert_close(around, scores, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(
        scores[:, 1:, ..., 1:, :, :], scores[:, :-1, ..., :-1, :, :], rtol=1e-5, atol=1e-6
    )
    assert (scores[:, 0, 0, 0, 1] - scores[:, 0, 0, 0, 0]).abs().min() > 1e-3


@pytest.mark.parametrize("patch", [(1, 4, 3), (2, 2, 1)])
def test_few_tokens_and_many_are_computed_alike(monkeypatch, patch):
    torch.manual_seed(0)
    mesh = CylinderMesh.regular(n_z=4, n_phi=4, n_r=3)
    net = Transformer(
        TransformerSettings(patch=patch, width=16, heads=2, depth=2), mesh, conditions=3, layers=2
    )
    for parameter in net.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.3)
    x, level = torch.randn(5, *mesh.shape), torch.rand(5, 1)
    prepared = net.prepare(torch.randn(5, 3), torch.randn(5, 4, 2))
    few = net(x, level, prepared)
    calls = []
    attention = F.scaled_dot_product_attention
    monkeypatch.setattr(
        F, "scaled_dot_product_attention", lambda *a, **k: calls.append(1) or attention(*a, **k)
    )
    monkeypatch.setattr(transformer, "SHORT", 0)
    torch.testing.assert_close(net(x, level, prepared), few, rtol=1e-4, atol=1e-5)
    assert len(calls) == 2
    assert few.std() > 0.1
