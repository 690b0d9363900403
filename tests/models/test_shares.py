"""What several processes compute of their shares of a batch is what one computes of the whole."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import pytest
import torch
from test_laws import CLASSES, SHOWERS, fitted, moved_at_random, name_of
from torch import Tensor, nn
from torch.nn import functional as F

from caloforge.errors import TrainingError
from caloforge.models.base import Batch, GeneratorModel
from caloforge.models.diffusion.distillation import DiffusionStudent
from caloforge.runtime import precision
from caloforge.runtime.seeds import seed_torch
from caloforge.runtime.share import Share, places

N, PROCESSES = 22, 3


def shares() -> list[Share]:
    return [Share(N, i, PROCESSES) for i in range(PROCESSES)]


def model_of(cls: type[GeneratorModel], monkeypatch: pytest.MonkeyPatch) -> GeneratorModel:
    """A model in training, in float32, with dropout where it has some."""
    monkeypatch.setattr(precision, "native_bf16", lambda device: False)
    model = moved_at_random(fitted(cls, SHOWERS)).train()
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.3
    return model


def gradients(
    model: GeneratorModel, batch: Batch, part: str, share: Share | None = None
) -> tuple[Tensor, float, list[Tensor]]:
    """The loss of a share, its weight and its gradients."""
    seed_torch(5, torch.device("cpu"))
    with nullcontext() if share is None else share:
        losses = model(batch, part, torch.Generator().manual_seed(5))
    weight = float(losses.pop("weight", len(batch)))
    parameters = model.parts()[part]
    grads = torch.autograd.grad(losses["loss"], parameters, materialize_grads=True)
    return losses["loss"].detach(), weight, list(grads)


@pytest.mark.parametrize("cls", CLASSES, ids=name_of)
def test_shares_have_the_loss_and_gradient_of_the_batch(
    cls: type[GeneratorModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = model_of(cls, monkeypatch)
    if cls.sees_batch:
        pytest.skip("trained by one process")
    batch = Batch.with_energies(SHOWERS.energies[:N], SHOWERS.conditions[:N], model.detectors)
    if not issubclass(cls, DiffusionStudent):  # which draws in float32
        model = model.double()
        for name in ("energy", "theta", "phi", "energies"):
            setattr(batch, name, getattr(batch, name).double())
    for part in model.parts():
        loss, _, whole = gradients(model, batch, part)
        each = [gradients(model, batch[share.rows], part, share) for share in shares()]
        total = sum(weight for _, weight, _ in each)
        assert float(sum(w * own for own, w, _ in each) / total) == pytest.approx(float(loss), rel=1e-6), part
        for i, gradient in enumerate(whole):
            mean = sum(weight * own[i] for _, weight, own in each) / total
            assert (mean - gradient).abs().max() <= 1e-4 * gradient.abs().max() + 1e-9, part


def drawn(draw: Any, share: Share | None = None, n: int = N) -> Tensor:
    torch.manual_seed(1)
    with nullcontext() if share is None else share:
        result: Tensor = draw(n, torch.Generator().manual_seed(2))
    return result


DRAWS = {
    "rand": lambda n, g: torch.rand(n, 3, generator=g),
    "randn": lambda n, g: torch.randn(n, 2, 2, generator=g),
    "randint": lambda n, g: torch.randint(9, (n, 1), generator=g),
    "randperm": lambda n, g: torch.randperm(n, generator=g),
    "rand_like": lambda n, g: torch.rand_like(torch.zeros(n, 3)),
    "exponential_": lambda n, g: torch.zeros(n).exponential_(generator=g),
    "dropout": lambda n, g: F.dropout(torch.ones(n, 5), 0.5),
    "dropout, other layout": lambda n, g: F.dropout(torch.ones(5, n).T, 0.5),
    "rows": lambda n, g: torch.randn(4 * n, 3, generator=g).view(n, 4, 3),
    "second axis": lambda n, g: torch.randn(5, n, 3, generator=g).movedim(1, 0),
    "second draw": lambda n, g: torch.rand(n, generator=g) + torch.rand(n, generator=g),
    "places": lambda n, g: places(n, "cpu")[0] + torch.rand(n, generator=g),
}


@pytest.mark.parametrize("name", DRAWS)
def test_shares_draw_what_the_whole_batch_draws(name: str) -> None:
    whole = drawn(DRAWS[name])
    parts = [drawn(DRAWS[name], share, len(share)) for share in shares()]
    assert torch.equal(torch.cat(parts), whole)


def test_what_all_showers_share_is_the_same_and_what_cannot_be_shared_is_refused() -> None:
    number = drawn(lambda n, g: torch.rand((), generator=g))
    assert all(torch.equal(drawn(lambda n, g: torch.rand((), generator=g), s), number) for s in shares())
    with pytest.raises(TrainingError, match=r"multinomial.*cannot be shared"):
        drawn(lambda n, g: torch.multinomial(torch.ones(4), 2), shares()[0])
    q = torch.ones(1, 1, 4, 8)
    drawn(lambda n, g: F.scaled_dot_product_attention(q, q, q), shares()[0])
    assert Share.active is None
