"""A generator of pixel events made for sparse, correlated sensors.

An event is drawn from coarse to fine: common fluctuations of all sensors, numbers of clusters by sensor and
size, their places, and pixel by pixel the shapes and charges of all clusters at once. Rates enter the numbers
only, to which each source gives in proportion: that holds at any rate. Clusters that lie over each other add
up as they do in the detector; since those in training events have done so, too, what is learned is
extrapolated to vanishing rate, where none have.

Legend: ``n`` events, ``S`` sensors, ``K`` classes of clusters by size, ``G`` groups of those.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn

from caloforge.data.pixels import PixelEvents, PixelHits
from caloforge.detector.mesh.pixel import PixelMesh
from caloforge.models.pixels.base import PixelModel
from caloforge.models.pixels.batch import PixelBatch
from caloforge.models.pixels.sparse.clusters import END, STEPS, Clusters, find_clusters
from caloforge.models.pixels.sparse.numbers import fit_numbers
from caloforge.models.pixels.sparse.sampler import GROUPS, N_GROUPS, Exported, Sampler
from caloforge.models.pixels.sparse.shape import (
    FLOOR,
    PAST,
    SIZES,
    past_features,
    seen_charge,
    size_class,
    step_of,
)

__all__ = ["SparsePixels"]

SMOOTHING = 30.0
"""Clusters of sensors of the same kind that are added to those of a sensor where they lie is learned."""
CALIBRATION_EVENTS, CALIBRATIONS = 50, 3
"""Events that are made, each time that numbers of clusters are scaled."""
FEW = 50.0
"""Clusters of a kind of sensor and class that are added, so that of a few nothing is concluded."""
Moments = NDArray[np.float64]


class SparsePixels(PixelModel):
    """Numbers, places and pixels of clusters, one after the other."""

    class Settings(PixelModel.Settings):
        """Settings of the network.

        Attributes:
            width: of the network of shapes.
            rank: dimensions of the common fluctuations of numbers of clusters.
            sensors: sensors of each event that a step is trained on, chosen at random.
        """

        width: int = Field(48, ge=4)
        rank: int = Field(48, ge=1)
        sensors: int = Field(3, ge=1)

    settings: Settings
    sampler: Sampler
    slope: Tensor
    seen: Tensor
    charges: Tensor
    given: Tensor
    _scripted: tuple[torch.jit.ScriptModule, ...] = ()  # so that it is in no state dict

    def __init__(self, mesh: PixelMesh, settings: Settings | Mapping[str, object] | None = None) -> None:
        super().__init__(mesh, settings)
        self.sampler = Sampler(self.detector, self.settings.width, self.settings.rank)
        self.register_buffer("slope", torch.zeros(()))
        self.register_buffer("seen", torch.zeros_like(self.sampler.means[0]))
        self.register_buffer("charges", torch.zeros_like(self.sampler.tilt))
        self.register_buffer("given", torch.zeros(len(self.detector.sources)))

    def fit(self, events: PixelEvents) -> None:
        """Numbers and places of all clusters."""
        counts, places, spectra = self._counted(events)
        self.sampler.network.set_spectrum(spectra.sum(axis=0))
        self.seen.copy_(torch.from_numpy(counts.sum(axis=0)))
        self.charges.copy_(torch.from_numpy(self._binned(spectra)))
        rates = events.conditions.rates
        self.given.copy_(torch.from_numpy(rates.sum(axis=0)))
        groups = np.array(GROUPS)
        self.sampler.set_numbers(fit_numbers(counts, rates, self.detector, groups, self.settings.rank))
        kinds = self.sampler.kind.cpu().numpy()
        for kind in np.unique(kinds):
            own = kinds == kind
            common = places[own].sum(axis=0)
            places[own] += SMOOTHING * len(GROUPS) * common / np.maximum(common.sum(-1, keepdims=True), 1)
        self.sampler.places.copy_(torch.from_numpy(places.reshape(self.sampler.places.shape)))
        overall = rates.mean(axis=1)
        mean, spread = float(overall.mean()), float(overall.std())
        # weights 1 − slope·(rate − mean) see what is proportional to the rate as 0
        self.slope.fill_(mean / spread**2 if spread > 0.2 * mean else 0.0)

    def _counted(self, events: PixelEvents) -> tuple[Moments, Moments, Moments]:
        """Clusters by event, sensor and class, by sensor, group and place; pixels by kind and charge."""
        sampler, sensors = self.sampler, self.mesh.shape[0]
        edges_u, edges_v = sampler.edges_u.cpu(), sampler.edges_v.cpu()
        across = len(edges_v) - 1
        shape = (sensors, N_GROUPS, (len(edges_u) - 1) * across)
        counts, places, spectra = [], np.zeros(shape), np.zeros((len(sampler.tilt), sampler.largest + 1))
        for hits, _ in events.batches(4):
            spectra += self._spectra(hits)
            found = find_clusters(*_columns(hits))
            size = size_class(found.size)
            image = found.image.numpy()
            flat = image * len(SIZES) + size.numpy()
            of_class = np.bincount(flat, minlength=len(hits) * sensors * len(SIZES))
            counts.append(of_class.reshape(len(hits), sensors, len(SIZES)))
            u, v = (
                torch.bucketize(x[found.first], edges, right=True) - 1
                for x, edges in ((found.u, edges_u), (found.v, edges_v))
            )
            row = (image % sensors) * N_GROUPS + np.array(GROUPS)[size.numpy()]
            place = row * shape[2] + (u * across + v).numpy()
            places += np.bincount(place, minlength=places.size).reshape(shape)
        return np.concatenate(counts).astype(np.float64), places, spectra

    def _spectra(self, hits: PixelHits) -> Moments:
        """Pixels by kind of sensor and charge."""
        shape = len(self.sampler.tilt), self.sampler.largest + 1
        flat = self.sampler.kind.cpu().numpy()[hits.sensor] * shape[1] + hits.charge
        return np.bincount(flat, minlength=shape[0] * shape[1]).reshape(shape).astype(np.float64)

    def _binned(self, spectra: Moments) -> Moments:
        """The same in bins of the network, as shares."""
        low = self.sampler.network.low.cpu().numpy().astype(int)
        binned = np.add.reduceat(spectra, low, axis=1)
        return np.asarray(binned / np.maximum(binned.sum(axis=1, keepdims=True), 1))

    def losses(self, batch: PixelBatch, part: str, generator: torch.Generator) -> dict[str, Tensor]:
        """Mean loss of a pixel's step and charge on some sensors of the events, weighed by their rates."""
        n, sensors = batch.images.shape[:2]
        order = torch.rand(n, sensors, generator=generator, device=batch.images.device).argsort(dim=1)
        chosen = order[:, : self.settings.sensors]
        event = torch.arange(n, device=chosen.device)[:, None].expand_as(chosen).reshape(-1)
        chosen = chosen.reshape(-1)
        images = batch.images[event, chosen]
        image, u, v = images.nonzero().unbind(1)
        clusters = find_clusters(image, u, v, images[image, u, v].long())
        steps, charges = self._losses(clusters, chosen[clusters.image])
        event = event[clusters.image][clusters.cluster]
        pixels = torch.bincount(event, minlength=n).clamp_min(1)
        weights = self._weights(batch.rates.mean(dim=1)) / (n * pixels)
        weight = weights[event]
        return {"loss": (weight * (steps + charges)).sum(), "step": (weight * steps).sum().detach()}

    def _weights(self, rate: Tensor) -> Tensor:
        """Weights of events at rates (n,), of mean 1, with which a mean is that at vanishing rate.

        To what is linear in the rate. That their mean is 1 in each batch, and not in all of them together,
        keeps the gradients of single batches from turning round.
        """
        n = len(rate)
        return 1 - self.slope * (n / max(n - 1, 1)) * (rate - rate.mean())

    def _losses(self, clusters: Clusters, sensor: Tensor) -> tuple[Tensor, Tensor]:
        """Losses of the step that leads from each pixel and of the charge of each, (H,)."""
        network = self.sampler.network
        size = size_class(clusters.size)
        first, of, rank = clusters.first, clusters.cluster, clusters.rank
        u, v, charge = clusters.u, clusters.v, clusters.charge
        known = self.sampler.known(sensor, size, u[first], v[first])
        bins = network.bin_of(charge)
        start = _row_starts(clusters)
        hidden = network.hidden(known[of], _history(clusters, start))
        following = rank + 1 < clusters.size[of]
        after = (torch.arange(len(u), device=u.device) + 1).clamp_max(max(len(u) - 1, 0))
        step = torch.where(following, step_of(u, v, u[start], u[after], v[after]), END)
        size, pixels = size[of], rank + 1
        open_end = (pixels >= self.sampler.least[size]) & (pixels < self.sampler.most[size])
        goes_on = pixels < self.sampler.least[size]
        never = goes_on[:, None] & (torch.arange(STEPS, device=u.device) == END)
        steps = _bounded(network.step(hidden).masked_fill(never, -torch.inf), step) * (goes_on | open_end)
        later = _bounded(network.charges(hidden, step), bins[after]) * following
        # the charge of the first pixel is counted there, that of any other with the pixel before
        return steps, later.index_add(0, first, _bounded(network.begin(known), bins[first]))

    @torch.no_grad()
    def calibrate(self, events: PixelEvents, generator: torch.Generator) -> None:
        """Scale numbers of clusters so that each kind of sensor gets as many of a class as in the events.

        And tilt the probabilities of charges so that their spectrum there is that of the events. What is made
        of clusters that touch, and of one that falls apart, is counted as in the events. Without the common
        fluctuations, so that few events tell it.
        """
        sampler, sensors = self.sampler, self.mesh.shape[0]
        rates = events.conditions.rates
        chosen = np.argsort(rates.mean(axis=1), kind="stable")[:: -(-len(rates) // CALIBRATION_EVENTS)]
        kinds = sampler.kind.cpu().numpy()
        of_kind = np.eye(int(kinds.max()) + 1)[kinds].T  # (kinds, S)
        means = sampler.means.cpu().numpy().astype(np.float64)
        given = self.given.cpu().numpy()  # rates of all events that are counted in ``seen``
        all_of, some_of = (np.tensordot(r, means, 1) for r in (given, rates[chosen].sum(axis=0)))
        real = of_kind @ (self.seen.cpu().numpy() * some_of / np.maximum(all_of, 1e-9))
        factors = sampler.factors.clone()
        sampler.factors.zero_()
        for _ in range(CALIBRATIONS):
            made = []
            for key, rate in zip(self.noise(len(chosen), generator)["key"], rates[chosen], strict=True):
                made.append(self._hits(key, torch.from_numpy(rate.astype(np.float32)).to(self.device)))
            hits = PixelHits.concatenate(made)
            found = find_clusters(*_columns(hits))
            flat = (found.image % sensors) * len(SIZES) + size_class(found.size)
            counts = torch.bincount(flat, minlength=sensors * len(SIZES)).numpy()
            ours = of_kind @ counts.reshape(sensors, len(SIZES))
            factor = np.clip((real + FEW) / (ours + FEW), 0.5, 2.0)[kinds]
            sampler.means *= torch.from_numpy(factor).to(sampler.means)
            shares = [x + 1e-5 for x in (self.charges.cpu().numpy(), self._binned(self._spectra(hits)))]
            tilt = np.clip(np.log(shares[0] / shares[1]), -0.5, 0.5)
            sampler.tilt += torch.from_numpy(tilt).to(sampler.tilt)
        sampler.factors.copy_(factors)

    def noise_shapes(self) -> dict[str, tuple[int, ...]]:
        """None: how many numbers an event takes is known only when its clusters are."""
        return {}

    def decode(self, noise: Mapping[str, Tensor], rates: Tensor) -> Tensor:
        images = torch.zeros(
            len(rates), int(np.prod(self.mesh.shape)), dtype=torch.uint8, device=rates.device
        )
        for image, key, rate in zip(images, noise["key"], rates, strict=True):
            cell, charge = self._made(key, rate)
            image[cell] = charge
        return images.view(len(rates), *self.mesh.shape)

    def hits(self, noise: Mapping[str, Tensor], rates: Tensor) -> PixelHits:
        made = [self._hits(key, rate) for key, rate in zip(noise["key"], rates, strict=True)]
        return PixelHits.concatenate(made)

    def script(self) -> torch.jit.ScriptModule:
        return scripted(Exported(self.sampler).eval())

    def _made(self, key: Tensor, rate: Tensor) -> tuple[Tensor, Tensor]:
        """Lit cells and their charges of one event, from a key (4,) and rates (B,).

        On a CPU, generation has it as TorchScript, which is bit for bit the same in two thirds of the time.
        """
        run: Any = self.sampler
        if key.device.type == "cpu" and torch.is_inference_mode_enabled() and not self.training:
            self._scripted = self._scripted or (scripted(self.sampler),)
            run = self._scripted[0]
        cell, charge = run(key, rate)
        return cell, charge

    def _hits(self, key: Tensor, rate: Tensor) -> PixelHits:
        cell, charge = (x.cpu().numpy() for x in self._made(key, rate))
        return PixelHits.from_cells(self.mesh.shape, 1, cell, charge)


def scripted(module: nn.Module) -> torch.jit.ScriptModule:
    """The module in TorchScript, which torch calls deprecated and which is all that basf2 loads."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return torch.jit.script(module)


def _columns(hits: PixelHits) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Image, u, v and charge of hits, int64; images are counted by event and sensor."""
    columns = (hits.image, hits.u, hits.v, hits.charge)
    image, u, v, charge = (torch.from_numpy(column.astype(np.int64)) for column in columns)
    return image, u, v, charge


def _bounded(logits: Tensor, target: Tensor) -> Tensor:
    """Minus the logarithm of the probability of targets, mixed with a little of an even one."""
    chosen = torch.log_softmax(logits, dim=1).gather(1, target[:, None]).squeeze(1)
    return -torch.log((1 - FLOOR) * chosen.exp() + FLOOR / logits.shape[1])


def _row_starts(clusters: Clusters) -> Tensor:
    """Place of the first pixel of each pixel's row of cells in its cluster, (H,)."""
    v, of = clusters.v, clusters.cluster
    new = torch.ones(len(v), dtype=torch.bool, device=v.device)
    new[1:] = (v[1:] != v[:-1]) | (of[1:] != of[:-1])
    places = torch.arange(len(v), device=v.device)
    return torch.where(new, places, 0).cummax(0).values


def _history(clusters: Clusters, start: Tensor) -> Tensor:
    """What the network sees of the past of each pixel, (F, H); ``start`` is of `_row_starts`."""
    u, v, charge, rank = clusters.u, clusters.v, clusters.charge, clusters.rank
    places = torch.arange(len(u), device=u.device)
    back = torch.arange(PAST, device=u.device)
    there = rank >= back[:, None]
    past = torch.where(there, places - back[:, None], places)
    row = u[start]
    previous = (start - 1).clamp_min(0)
    has = v[start] > v[clusters.first[clusters.cluster]]
    before, last = torch.where(has, u[start[previous]], row), torch.where(has, u[previous], row)
    seen = seen_charge((charge[past] * there).to(torch.float32))
    others = (column.to(torch.float32) for column in (rank, row, before, last))
    return past_features(u[past].to(torch.float32), v[past].to(torch.float32), seen, *others)
