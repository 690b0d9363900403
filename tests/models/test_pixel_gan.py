"""Dense GANs of pixel events: published sizes, losses by hand, charges as images, what depends on what."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_pixels import small_detector, small_events
from torch import Tensor
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from caloforge.checkpoint import Checkpoint
from caloforge.data.pixels import PixelConditions, PixelEvents
from caloforge.detector import PixelDetector, PixelMesh
from caloforge.errors import RecipeError
from caloforge.generation import generate_events
from caloforge.models.pixels import PixelBatch
from caloforge.models.pixels.gan.augment import augmented
from caloforge.models.pixels.gan.charges import Charges, framed
from caloforge.models.pixels.gan.losses import contrastive, intra_event, orthogonality, uniformity
from caloforge.models.pixels.gan.model import EventGAN
from caloforge.models.pixels.gan.relations import Relations
from caloforge.training import Recipe, train

SMALL: dict[str, Any] = {
    "channels": 4,
    "critic_channels": 4,
    "multiples": [2, 2, 1],
    "latent": 5,
    "embedding": 6,
    "sphere": 12,
    "critic_attention": 1,
    "bf16": False,
}
RELATED: dict[str, Any] = SMALL | {"rates": True}
PRIOR: dict[str, Any] = SMALL | {
    "multiples": [2, 1],
    "patch": 2,
    "relational": False,
    "prior": True,
    "attention": 1,
    "uniformity": 0.0,
    "intra_event": 0.0,
}
EVENTS = small_events(6, seed=1)
BOTH = pytest.mark.parametrize("settings", [RELATED, PRIOR], ids=["iea", "pe"])


def made(settings: dict[str, Any]) -> EventGAN:
    torch.manual_seed(0)
    model = EventGAN(PixelMesh(small_detector()), settings)
    model.fit(EVENTS)
    with torch.no_grad():
        for parameter in model.parameters():  # so that nothing is 0 or the same in all
            parameter += 0.1 * torch.randn_like(parameter)
    return model


def batch_of(n: int) -> PixelBatch:
    hits = EVENTS.read(1, 1 + n)
    rates = torch.from_numpy(EVENTS.conditions.rates[1 : 1 + n].astype(np.float32))
    return PixelBatch(torch.from_numpy(hits.dense()), rates)


def noise_of(model: EventGAN, n: int = 3) -> dict[str, Tensor]:
    return model.noise(n, torch.Generator().manual_seed(5))


@pytest.mark.parametrize(
    ("recipe", "generator", "critic"), [("iea-gan", 11_693_473, 4_476_610), ("pe-gan", 11_672_610, 3_925_698)]
)
def test_networks_have_the_published_sizes(recipe: str, generator: int, critic: int) -> None:
    model = EventGAN(PixelMesh(PixelDetector.load("belle2-pxd")), Recipe.load(recipe).settings)
    sizes = {name: sum(p.numel() for p in group) for name, group in model.parts().items()}
    assert sizes == {"critic": critic, "generator": generator}
    assert model.generator.start == (4, 12)
    assert model.charges.size == (256, 768)
    assert model.noise_shapes()["latent"] == (40, 128)
    assert model.noise_shapes().get("relation") == ((40, 4) if recipe == "iea-gan" else None)


def test_charges_are_what_their_images_say() -> None:
    charges = Charges((250, 6), (256, 8), threshold=7, largest=255, noise=0.0)
    q = torch.zeros(1, 1, 250, 6, dtype=torch.uint8)
    q[0, 0, :249, 2] = torch.arange(7, 256, dtype=torch.uint8)
    images = charges.images(q)
    assert images.shape == (1, 1, 256, 8)
    assert torch.equal(charges.charges(images), q)
    assert (images[0, 0, :3] == -1).all()
    assert (images[0, 0, -3:] == -1).all()
    assert (images[0, 0, :, :1] == -1).all()
    assert float(images[0, 0, 3, 3]) == pytest.approx(-0.25)  # 7 ADU
    assert float(images.max()) == pytest.approx(1)
    low = torch.full((1, 1, 256, 8), 2 * math.log(6.4 + 1) / math.log(256) - 1)
    assert not charges.charges(low).any()
    assert (framed(250, 64), framed(768, 64), framed(12, 4)) == (256, 768, 12)


def test_noise_of_real_images_changes_no_small_charge_and_no_mean() -> None:
    charges = Charges((249, 900), (256, 900), threshold=7, largest=255, noise=0.004)
    q = torch.arange(7, 256, dtype=torch.uint8).view(1, 1, 249, 1).expand(1, 1, 249, 900)
    again = charges.charges(charges.images(q, torch.Generator().manual_seed(0)))
    assert torch.equal(again[..., :37, :], q[..., :37, :])  # up to 43 ADU
    mean = again.float().mean(dim=3)[0, 0] - q[0, 0, :, 0]
    assert mean[:-6].abs().max() < 0.3  # the largest are cut off
    assert not torch.equal(again, q)


def test_the_contrast_of_a_case_by_hand() -> None:
    places = F.normalize(torch.tensor([[[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]]), dim=-1)
    proxies = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    r = math.sqrt(0.5)
    own, others = (1.0, 0.0, r), ((0.0, r), (0.0, r), (r, r))
    expected = [
        -math.log(math.exp(p) / (math.exp(p) + math.exp(a) + math.exp(b)))
        for p, (a, b) in zip(own, others, strict=True)
    ]
    assert float(contrastive(places, proxies)) == pytest.approx(sum(expected) / 3)
    two = torch.cat([places, places.roll(1, 1)])
    each = [float(contrastive(two[i : i + 1], proxies)) for i in range(2)]
    assert float(contrastive(two, proxies)) == pytest.approx(sum(each) / 2)


def test_uniformity_is_that_of_all_pairs() -> None:
    places = F.normalize(torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(0)), dim=-1)
    expected = [torch.pdist(x).square().mul(-2).exp().mean().log() for x in places]
    torch.testing.assert_close(uniformity(places), torch.stack(expected).mean())


def test_the_intra_event_loss_of_a_case_by_hand() -> None:
    fake = torch.tensor([[[1.0, 0.0], [1.0, 0.0]]])
    real = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]])
    p = 1 / (1 + math.exp(-1))  # of the real one, itself; the fake one has a half
    expected = p * math.log(p / 0.5) + (1 - p) * math.log((1 - p) / 0.5)
    assert float(intra_event(fake, real)) == pytest.approx(expected)
    assert float(intra_event(real, real)) == pytest.approx(0, abs=1e-6)
    asked = real.clone().requires_grad_()
    assert not intra_event(fake, asked).requires_grad


@pytest.mark.parametrize("shape", [(3, 7), (7, 3), (4, 2, 3, 3)])
def test_orthogonality_has_the_published_gradient(shape: tuple[int, ...]) -> None:
    weight = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    orthogonality([weight]).backward()
    w = weight.detach().flatten(1)
    gram = w @ w.T
    expected = 2 * (gram - gram.diag().diag()) @ w
    torch.testing.assert_close(weight.grad, expected.view(shape))
    assert float(orthogonality([torch.eye(4)])) == 0


def test_relations_do_not_know_an_order_but_relate() -> None:
    torch.manual_seed(0)
    relations = Relations(8, heads=2, hidden=5, spectral=True)
    x, order = torch.randn(2, 6, 8), torch.randperm(6)
    out = relations(x)
    torch.testing.assert_close(relations(x[:, order]), out[:, order])
    other = x.clone()
    other[0, 2, 0] += 1
    changed = (relations(other) - out).abs().amax(dim=2) > 1e-6
    assert changed[0].all()
    assert not changed[1].any()


@BOTH
def test_events_are_functions_of_their_own_noise_and_rates(settings: dict[str, Any]) -> None:
    model = made(settings).eval()
    noise, rates = noise_of(model), batch_of(3).rates
    with torch.no_grad():
        images = model.images(noise, rates)
        assert torch.equal(model.images(noise, rates), images)
        one = {name: z[1:2] for name, z in noise.items()}
        torch.testing.assert_close(model.images(one, rates[1:2]), images[1:2])
        alone = [model.images(one, factor * rates[1:2]) for factor in (1, 2)]
        assert torch.equal(*alone) != model.uses_rates
        charges = model.decode(noise, rates)
    assert charges.dtype == torch.uint8
    assert charges.shape == (3, *small_detector().shape)
    assert charges.any()
    assert set(range(1, 7)).isdisjoint(charges.unique().tolist())


@BOTH
def test_images_follow_their_sensors(settings: dict[str, Any]) -> None:
    """Sensors in another order, with what they are and their noise, have the same images in that order."""
    model, order = made(settings).eval(), torch.randperm(8, generator=torch.Generator().manual_seed(0))
    noise, rates = noise_of(model), batch_of(3).rates
    with torch.no_grad():
        images = model.images(noise, rates)
        same = {name: z[:, [0] * 8] for name, z in noise.items() if name != "key"}
        alike = model.images(same, rates)
        assert not torch.allclose(alike[:, 0], alike[:, 1])  # same noise, another sensor
        moved = {name: z[:, order] for name, z in noise.items() if name != "key"}
        learnt = model.generator.rows.learnt.weight
        learnt.copy_(learnt[:, order])
        model.prior.copy_(model.prior[order])
        torch.testing.assert_close(model.images(moved, rates), images[:, order], rtol=1e-4, atol=1e-5)


@BOTH
def test_every_weight_learns_and_the_critic_sees_changed_images_of_both_kinds(
    settings: dict[str, Any],
) -> None:
    model, batch = made(settings | {"augment": True}), batch_of(2)
    seen: dict[str, list[Tensor]] = {}
    for mode in ("plain", "changed"):
        model.train(mode == "changed")
        kept = seen.setdefault(mode, [])
        hook = model.critic.register_forward_pre_hook(lambda _, given, kept=kept: kept.append(given[0]))
        for part, parameters in model.parts().items():
            model.zero_grad()
            losses = model.losses(batch, part, torch.Generator().manual_seed(2))
            losses["loss"].backward()
            for p in parameters:
                assert p.grad is not None
                assert p.grad.isfinite().all()
            assert sum(bool(p.grad.any()) for p in parameters if p.grad is not None) > 0.9 * len(parameters)
            terms = set(losses) - {"loss", "gap", "lit"}
            torch.testing.assert_close(losses["loss"], torch.stack([losses[t] for t in terms]).sum())
        hook.remove()
    real, fake = seen["plain"][0].chunk(2)
    torch.testing.assert_close(
        real, model.charges.images(batch.images, torch.Generator().manual_seed(2))
    )  # noise is drawn first
    changed_real, changed_fake = seen["changed"][0].chunk(2)
    for plain, changed in ((real, changed_real), (fake, changed_fake)):
        assert (plain != changed).flatten(2).any(dim=2).all()
        holes = (changed == 0).flatten(2).float().mean(dim=2)
        assert (holes >= 0.06).all()  # a quarter of which three quarters may lie outside


@BOTH
def test_what_is_computed_again_has_the_same_gradients(settings: dict[str, Any]) -> None:
    gradients = []
    for recompute in (False, True):
        model = made(settings | {"recompute": recompute})
        for part, parameters in model.parts().items():
            loss = model.losses(batch_of(2), part, torch.Generator().manual_seed(1))["loss"]
            gradients.append(torch.autograd.grad(loss, parameters))
    for plain, again in zip(gradients[:2], gradients[2:], strict=True):
        for a, b in zip(plain, again, strict=True):
            torch.testing.assert_close(a, b)


class _Operations(TorchDispatchMode):
    """Names of operations, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.append(str(func))
        return func(*args, **(kwargs or {}))


@BOTH
def test_losses_are_the_same_operations_each_time_and_never_need_a_value_on_the_host(
    settings: dict[str, Any],
) -> None:
    model, made_of = made(settings).train(), []
    for n, seed in ((1, 1), (1, 2)):
        with _Operations() as operations:
            for part, parameters in model.parts().items():
                loss = model.losses(batch_of(n), part, torch.Generator().manual_seed(seed))["loss"]
                torch.autograd.grad(loss, parameters)
                with torch.no_grad():
                    model.after_step(part)
        made_of.append(operations.names)
    assert made_of[0] == made_of[1]
    assert not any(
        word in name for name in made_of[0] for word in ("_local_scalar_dense", "nonzero", "pdist")
    )


def test_changes_of_images_are_shifts_holes_brightness_and_contrast() -> None:
    images = torch.randn(60, 16, 24, generator=torch.Generator().manual_seed(0))
    changed = augmented(images, torch.Generator().manual_seed(1))
    assert torch.equal(changed, augmented(images, torch.Generator().manual_seed(1)))
    assert not torch.equal(changed, augmented(images, torch.Generator().manual_seed(2)))
    shifts, slopes = set(), []
    for x, y in zip(images, changed, strict=True):
        found = []
        for du in range(-2, 3):
            for dv in range(-3, 4):
                a = x[max(du, 0) : 16 + min(du, 0), max(dv, 0) : 24 + min(dv, 0)]
                b = y[max(-du, 0) : 16 + min(-du, 0), max(-dv, 0) : 24 + min(-dv, 0)]
                there = b != 0
                line = torch.stack([a[there], torch.ones_like(a[there])], dim=1)
                fit = torch.linalg.lstsq(line, b[there][:, None])
                found.append((float((line @ fit.solution - b[there][:, None]).abs().max()), du, dv, fit))
        rest, du, dv, fit = min(found, key=lambda f: f[0])
        assert rest < 1e-4
        shifts.add((du, dv))
        slopes.append(float(fit.solution[0, 0]))
    assert len(shifts) > 20  # of 35
    assert min(slopes) > 0.5 - 1e-4
    assert max(slopes) < 1.5 + 1e-4
    assert np.std(slopes) > 0.2
    asked = images[:4].clone().requires_grad_()
    augmented(asked, torch.Generator().manual_seed(1)).sum().backward()
    assert asked.grad is not None
    assert asked.grad.any()


def test_a_model_is_trained_kept_and_generates(tmp_path: Path) -> None:
    overrides = {f"settings.{name}": value for name, value in RELATED.items()} | {"training.steps": 8}
    out = tmp_path / "gan"
    train("iea-gan-small", small_events(4), out=out, overrides=overrides, progress=False)
    rows = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert {"hinge", "contrast", "uniformity", "intra_event", "orthogonal", "lit"} <= rows[0]["parts"][
        "generator"
    ].keys()
    model = Checkpoint.load(out).pixel_model()
    assert isinstance(model, EventGAN)
    events = generate_events(out, n=3, rate="1-2", progress=False)
    again = generate_events(out, n=1, first=2, rate="1-2", progress=False)
    assert np.array_equal(events[[2]].read(0, 1).charge, again.read(0, 1).charge)
    assert np.isfinite(events.conditions.rates).all()


def test_rates_that_are_not_told_are_not_known_of_events(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    events = small_events(4)
    blind = PixelEvents(
        events._source, PixelConditions.unknown(events.conditions.sources, 4), events.detector
    )
    overrides = {f"settings.{name}": value for name, value in RELATED.items()} | {"training.steps": 2}
    with pytest.raises(RecipeError, match=r"settings\.rates tells networks the rates, which are not known"):
        train("iea-gan-small", blind, out=tmp_path / "a", overrides=overrides, progress=False)
    untold = overrides | {"settings.rates": False}
    checkpoint = train("iea-gan-small", blind, out=tmp_path / "b", overrides=untold, progress=False)
    made = generate_events(checkpoint, n=2, progress=False)
    assert np.isnan(made.conditions.rates).all()
    assert not caplog.records
    generate_events(checkpoint, n=1, rate=2.0, progress=False)
    assert "is not told of rates" in caplog.text
