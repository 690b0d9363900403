"""PE-GAN (EPJ Web Conf. 251, 03031) and IEA-GAN (arXiv:2303.08046): dense images of an event.

The batch of BigGAN-deep is the event: its images are normalised together, related to one another by attention
and compared with one another by the losses. In several events of a step each is by itself.

Legend: ``n`` events of ``S`` sensors with ``U`` × ``V`` cells, of which images of (H, W) are made, ``B``
sources of background, ``D`` numbers of the critic's sphere.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field, field_validator
from torch import Tensor, nn

from caloforge.data.pixels.events import PixelEvents
from caloforge.detector.mesh.pixel import PixelMesh
from caloforge.errors import RecipeError
from caloforge.models.adversarial.objectives import critic_loss, generator_loss
from caloforge.models.networks.spectral import power_iteration
from caloforge.models.pixels.base import PixelModel
from caloforge.models.pixels.batch import PixelBatch
from caloforge.models.pixels.gan.augment import augmented
from caloforge.models.pixels.gan.charges import Charges, framed
from caloforge.models.pixels.gan.losses import contrastive, intra_event, orthogonality, uniformity
from caloforge.models.pixels.gan.networks import EventCritic, EventGenerator
from caloforge.settings import Settings

__all__ = ["EventGAN"]

LEAST_RATE = 0.01
"""Of the nominal one; less is taken as this."""


class EventGAN(PixelModel):
    """Critic and generator of dense images; parts "critic" and "generator"."""

    class Settings(Settings):
        """Sizes of the networks and weights of the losses.

        Attributes:
            channels, critic_channels: unit of the numbers of channels.
            multiples: channels of the generator at the beginning and after each doubling, in that unit; the
                critic has the same in the other order.
            patch: images are made and seen in squares of so many cells, whose cells are channels: with 1 the
                networks are those published, with more they are much faster.
            depth: blocks of each size.
            latent, embedding: numbers of noise of an image, and of what a sensor is.
            relational: sensors of an event are related by attention, in both networks.
            relation_noise: numbers of noise of an image that only the relations see.
            prior: networks are told the mean occupancy of each sensor.
            rates: networks are told the rates of the sources; otherwise events are those of the mixture that
                was trained on, whatever rates are asked for.
            heads, critic_heads: of the relations.
            attention, critic_attention: attention of the cells of an image after so many doublings or
                halvings; None for none.
            sphere: numbers of the place that the critic gives an image.
            contrast, uniformity, intra_event: weights of `losses`.
            orthogonal: weight of `orthogonality` of the generator.
            noise: of real images, see `Charges`.
            augment: images are changed at random before the critic sees them, real ones and generated ones.
            recompute: networks keep less for gradients and compute it twice, which saves memory.
            bf16: networks of images compute in bfloat16; "auto" where that is native.
        """

        channels: int = Field(32, ge=1)
        critic_channels: int = Field(32, ge=1)
        multiples: tuple[int, ...] = (16, 16, 8, 8, 4, 2, 1)
        patch: int = Field(1, ge=1)
        depth: int = Field(2, ge=1)
        latent: int = Field(128, ge=1)
        embedding: int = Field(128, ge=2)
        relational: bool = True
        relation_noise: int = Field(4, ge=1)
        prior: bool = False
        rates: bool = False
        heads: int = Field(2, ge=1)
        critic_heads: int = Field(4, ge=1)
        attention: int | None = Field(None, ge=1)
        critic_attention: int | None = Field(3, ge=1)
        sphere: int = Field(1024, ge=2)
        contrast: float = Field(1.0, ge=0)
        uniformity: float = Field(0.1, ge=0)
        intra_event: float = Field(1.0, ge=0)
        orthogonal: float = Field(1e-4, ge=0)
        noise: float = Field(0.004, ge=0)
        augment: bool = True
        recompute: bool = False
        bf16: bool | Literal["auto"] = "auto"

        @field_validator("multiples")
        @classmethod
        def _falling(cls, multiples: tuple[int, ...]) -> tuple[int, ...]:
            if len(multiples) < 2 or min(multiples) < 1 or any(b > a for a, b in pairwise(multiples)):
                raise ValueError("multiples must be two whole numbers at least, 1 or more, that do not rise")
            return multiples

    needs_rates: ClassVar[bool] = False
    """Where they are needed, `fit` asks for them."""
    settings: Settings
    prior: Tensor

    def __init__(self, mesh: PixelMesh, settings: Settings | Mapping[str, Any] | None = None) -> None:
        super().__init__(mesh, settings)
        s = self.settings
        sensors, *cells = self.detector.shape
        height, width = (framed(n, s.patch * 2 ** (len(s.multiples) - 1)) for n in cells)
        readout, sources = self.detector.readout, len(self.detector.sources) if s.rates else 0
        self.charges = Charges(
            (cells[0], cells[1]),
            (height, width),
            threshold=readout.threshold_adu,
            largest=readout.largest_adu,
            noise=s.noise,
        )
        self.register_buffer("prior", torch.zeros(sensors))
        self.generator = EventGenerator(
            sensors,
            (height, width),
            [m * s.channels for m in s.multiples],
            patch=s.patch,
            depth=s.depth,
            latent=s.latent,
            embedding=s.embedding,
            relation_noise=s.relation_noise if s.relational else None,
            prior=s.prior,
            rates=sources,
            heads=s.heads,
            attention=s.attention,
            recompute=s.recompute,
        )
        self.critic = EventCritic(
            sensors,
            [m * s.critic_channels for m in reversed(s.multiples)],
            patch=s.patch,
            depth=s.depth,
            sphere=s.sphere,
            relational=s.relational,
            prior=s.prior,
            rates=sources,
            heads=s.critic_heads,
            attention=s.critic_attention,
            recompute=s.recompute,
        )

    def fit(self, events: PixelEvents) -> None:
        """Mean occupancies of the sensors, as a vector of length 1; RecipeError where a rate is not known."""
        if self.uses_rates and not np.isfinite(events.conditions.rates).all():
            raise RecipeError(
                "settings.rates tells networks the rates, which are not known of some events; leave it out"
            )
        lit = sum(torch.from_numpy(hits.counts.sum(axis=0)).float() for hits, _ in events.batches())
        self.prior.copy_(nn.functional.normalize(torch.as_tensor(lit), dim=0))

    def parts(self) -> dict[str, list[nn.Parameter]]:
        return {"critic": list(self.critic.parameters()), "generator": list(self.generator.parameters())}

    @property
    def uses_rates(self) -> bool:
        return self.settings.rates

    def images(self, noise: Mapping[str, Tensor], rates: Tensor) -> Tensor:
        """Generated images (n, S, H, W), between −1 and 1."""
        known = noise["latent"], noise.get("relation"), self.prior, _logs(rates)
        made: Tensor = self.generator(*known, self.bf16)
        return made

    def judged(self, images: Tensor, rates: Tensor) -> tuple[Tensor, Tensor]:
        """Scores (n, S) and places (n, S, D) of the critic."""
        found: tuple[Tensor, Tensor] = self.critic(images, _logs(rates), self.bf16)
        return found

    def losses(self, batch: PixelBatch, part: str, generator: torch.Generator) -> dict[str, Tensor]:
        """Of the critic, with the "gap" by which it prefers real events, or of the generator."""
        real = self.charges.images(batch.images, generator)
        noise = self.noise(len(real), generator)
        made = self._of_generator if part == "generator" else self._of_critic
        return made(real, noise, batch.rates, generator)

    def _of_critic(
        self, real: Tensor, noise: Mapping[str, Tensor], rates: Tensor, generator: torch.Generator
    ) -> dict[str, Tensor]:
        s, n = self.settings, len(real)
        with torch.no_grad():
            fake = self._changed(self.images(noise, rates), generator)
            seen = torch.cat([self._changed(real, generator), fake])
        scores, places = self.judged(seen, torch.cat([rates, rates]))
        terms = {"hinge": critic_loss("hinge", scores[:n], scores[n:])}
        terms["contrast"] = s.contrast * contrastive(places[:n], self.critic.proxies(self.prior))
        if s.uniformity:
            terms["uniformity"] = s.uniformity * uniformity(places[:n])
        return _sum(terms) | {"gap": (scores[:n] - scores[n:]).mean()}

    def _of_generator(
        self, real: Tensor, noise: Mapping[str, Tensor], rates: Tensor, generator: torch.Generator
    ) -> dict[str, Tensor]:
        s = self.settings
        fake = self.images(noise, rates)
        scores, places = self.judged(self._changed(fake, generator), rates)
        terms = {"hinge": generator_loss("hinge", scores)}
        terms["contrast"] = s.contrast * contrastive(places, self.critic.proxies(self.prior))
        if s.uniformity:
            terms["uniformity"] = s.uniformity * uniformity(places)
        if s.intra_event:
            with torch.no_grad():
                there = self.judged(self._changed(real, generator), rates)[1]
            terms["intra_event"] = s.intra_event * intra_event(places, there)
        if s.orthogonal:
            rows = self.generator.rows.learnt.weight
            weights = [w for w in self.generator.parameters() if w.ndim >= 2 and w is not rows]
            terms["orthogonal"] = s.orthogonal * orthogonality(weights)
        lit = [(self.charges.charges(images) > 0).float().mean() for images in (fake.detach(), real)]
        return _sum(terms) | {"lit": lit[0] / lit[1].clamp_min(1e-9)}

    def _changed(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """As the critic sees images (n, S, H, W) in training."""
        if not (self.training and self.settings.augment):
            return images
        return augmented(images.flatten(0, 1), generator).view_as(images)

    def after_step(self, part: str) -> None:
        power_iteration(self.critic if part == "critic" else self.generator)

    def noise_shapes(self) -> dict[str, tuple[int, ...]]:
        s, sensors = self.settings, self.detector.shape[0]
        relation: dict[str, tuple[int, ...]] = (
            {"relation": (sensors, s.relation_noise)} if s.relational else {}
        )
        return {"latent": (sensors, s.latent)} | relation

    def decode(self, noise: Mapping[str, Tensor], rates: Tensor) -> Tensor:
        return self.charges.charges(self.images(noise, rates))


def _logs(rates: Tensor) -> Tensor:
    """Logarithms of rates, as networks are told them; those of sources without any are finite."""
    return rates.clamp_min(LEAST_RATE).log()


def _sum(terms: dict[str, Tensor]) -> dict[str, Tensor]:
    return {"loss": torch.stack(list(terms.values())).sum(), **terms}
