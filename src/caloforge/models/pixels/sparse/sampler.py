"""Events from random numbers: what generation and the exported module run, in torch that can be scripted.

Legend: ``S`` sensors of ``U`` × ``V`` cells, ``K`` classes of clusters by size in ``G`` groups, ``B`` sources
of background, ``C`` clusters of the event, ``H`` hits, ``T`` bins of places.
"""

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from caloforge.detector.pixel import PixelDetector
from caloforge.models.pixels.sparse.clusters import END, SAME, SIDE
from caloforge.models.pixels.sparse.counter import uniforms
from caloforge.models.pixels.sparse.numbers import Numbers, azimuths_of
from caloforge.models.pixels.sparse.shape import (
    PAST,
    SIZES,
    ShapeNetwork,
    charge_edges,
    drawn,
    past_features,
    place_features,
    seen_charge,
)
from caloforge.runtime.streams import stream_id

__all__ = ["GROUPS", "N_GROUPS", "Exported", "Sampler", "place_edges"]

GROUPS = tuple((size > 1) + (size > 2) + (size > 8) for size in SIZES)
"""Group of each class: clusters of a group have places and fluctuate together."""
N_GROUPS = max(GROUPS) + 1
WATCHED = 16
"""Steps of a cluster that are kept on the sensor; of later ones what lies beyond is dropped."""
NEAR_END = (0, 1, 3, 8, 24)
"""Edges of bins near the ends of a sensor, where tracks come in and places are denser."""
STREAMS = tuple(stream_id(f"pixels/{name}") for name in ("common", "clusters", "pixels"))


def place_edges(cells: int, between: int) -> list[int]:
    """Edges of the bins of places along an axis: narrow ones at both ends, ``between`` in the middle."""
    if cells < 4 * NEAR_END[-1]:
        return list(range(cells + 1))
    inner = np.linspace(NEAR_END[-1], cells - NEAR_END[-1], between + 1).round().astype(int)
    return [*NEAR_END[:-1], *inner.tolist(), *(cells - edge for edge in reversed(NEAR_END[:-1]))]


class Sampler(nn.Module):
    """Numbers and places of clusters from tables, their pixels from a network, and all together as hits.

    Args:
        detector: whose sensors.
        width: of the network.
        rank: columns of the factors of common fluctuations.
    """

    edges_u: Tensor
    edges_v: Tensor
    least: Tensor
    most: Tensor
    group: Tensor
    kind: Tensor
    azimuth: Tensor
    fine: Tensor
    offsets: Tensor
    means: Tensor
    factors: Tensor
    places: Tensor
    tilt: Tensor

    def __init__(self, detector: PixelDetector, width: int, rank: int) -> None:
        super().__init__()
        self.sensors, self.n_u, self.n_v = detector.shape
        kinds = detector.sensor_kinds
        edges = charge_edges(detector.readout.threshold_adu, detector.readout.largest_adu)
        self.network = ShapeNetwork(int(kinds.max()) + 1, width, edges)
        self.largest = detector.readout.largest_adu
        # TorchScript knows numbers of modules only
        self.n_groups, self.past, self.longest, self.watched = N_GROUPS, PAST, SIZES[-1], WATCHED
        self.end, self.same, self.side = END, SAME, SIDE
        self.common_stream, self.cluster_stream, self.pixel_stream = STREAMS
        edges_u, edges_v = place_edges(self.n_u, 5), place_edges(self.n_v, 12)
        places = (len(edges_u) - 1) * (len(edges_v) - 1)
        sources, classes = len(detector.sources), len(SIZES)
        self.register_buffer("edges_u", torch.tensor(edges_u), persistent=False)
        self.register_buffer("edges_v", torch.tensor(edges_v), persistent=False)
        self.register_buffer("least", torch.tensor(SIZES), persistent=False)
        most = [*(size - 1 for size in SIZES[1:]), SIZES[-1]]
        self.register_buffer("most", torch.tensor(most), persistent=False)
        self.register_buffer("group", torch.tensor(GROUPS), persistent=False)
        self.register_buffer("kind", torch.from_numpy(kinds), persistent=False)
        azimuths = torch.from_numpy(azimuths_of(detector).astype(np.float32))
        self.register_buffer("azimuth", azimuths, persistent=False)
        offsets = [*range(1, SAME + 1), *range(-SIDE, SIDE + 1)]
        self.register_buffer("offsets", torch.tensor(offsets, dtype=torch.float32), persistent=False)
        self.register_buffer("fine", torch.from_numpy(_fineness(detector)), persistent=False)
        self.register_buffer("means", torch.zeros(sources, self.sensors, classes))
        self.register_buffer("factors", torch.zeros(self.sensors * N_GROUPS, rank))
        self.register_buffer("places", torch.zeros(self.sensors * N_GROUPS, places))
        self.register_buffer("tilt", torch.zeros(int(kinds.max()) + 1, len(edges) - 1))

    @torch.jit.unused
    def set_numbers(self, numbers: Numbers) -> None:
        """Take what was fitted."""
        self.means.copy_(torch.from_numpy(numbers.means))
        self.factors.zero_()
        self.factors[:, : numbers.factors.shape[1]] = torch.from_numpy(numbers.factors)

    def known(self, sensor: Tensor, size: Tensor, u: Tensor, v: Tensor) -> Tensor:
        """What the network knows of clusters (C,) before their pixels."""
        fine = self.fine[sensor, v]
        place = place_features(u, v, self.n_u, self.n_v, fine, self.azimuth[sensor])
        return self.network.cluster(self.kind[sensor], size, place)

    def expected(self, key: Tensor, rates: Tensor) -> Tensor:
        """Mean numbers (K, S) of clusters in the event, its own fluctuations included."""
        means = (rates[:, None, None] * self.means).sum(dim=0)
        nominal = self.means.sum(dim=0)
        grouped = torch.zeros(self.sensors, self.n_groups, device=means.device)
        at_one = torch.zeros_like(grouped)
        grouped.index_add_(1, self.group, means)
        at_one.index_add_(1, self.group, nominal)
        rate = (grouped / at_one.clamp_min(1e-9)).clamp_min(1e-3).reshape(-1)
        normal = math.sqrt(2.0) * torch.erfinv(
            2 * uniforms(key, self.common_stream, self.factors.shape[1]) - 1
        )
        spread = self.factors / rate.sqrt()[:, None]
        log = spread @ normal - spread.square().sum(dim=1) / 2
        return (means * log.exp().reshape(self.sensors, self.n_groups)[:, self.group]).t()

    def clusters(self, key: Tensor, rates: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Sensor, class and first cell (u, v) of the clusters of an event, in order of their class."""
        mean = self.expected(key, rates)
        cumulated = mean.reshape(-1).to(torch.float64).cumsum(0)
        total = cumulated[-1].clamp_min(1e-9)
        z = math.sqrt(2.0) * torch.erfinv(2 * uniforms(key, self.cluster_stream, 1) - 1).to(torch.float64)
        drawn = total + total.sqrt() * z + (z.square() - 1) / 6  # Poisson's number, after Cornish and Fisher
        n = int(torch.round(drawn).clamp_min(0.0))
        draws = uniforms(key, self.cluster_stream + 1, 4 * n).to(torch.float64).view(4, n)
        cell = torch.searchsorted(cumulated, draws[0] * total).clamp_max(len(cumulated) - 1).sort()[0]
        size, sensor = cell // self.sensors, cell % self.sensors
        row = sensor * self.n_groups + self.group[size]
        rows = self.places.to(torch.float64).cumsum(1) / self.places.sum(1, keepdim=True).clamp_min(1e-9)
        offset = torch.arange(len(rows), device=rows.device)
        bins = torch.searchsorted((rows + offset[:, None]).reshape(-1), draws[1] + row) - row * rows.shape[1]
        bins = bins.clamp(0, rows.shape[1] - 1)
        across = len(self.edges_v) - 1
        bin_u, bin_v = bins // across, bins % across
        u = _whole(self.edges_u, bin_u, draws[2])
        v = _whole(self.edges_v, bin_v, draws[3])
        return sensor, size, u, v

    def forward(self, key: Tensor, rates: Tensor) -> tuple[Tensor, Tensor]:
        """Lit cells (H,), int64 and rising, and their charges (H,), uint8, of a key (4,) and rates (B,)."""
        sensor, size, first_u, first_v = self.clusters(key, rates)
        known = self.known(sensor, size, first_u, first_v)
        n = len(sensor)
        cluster = torch.arange(n, device=key.device)
        tilt = self.tilt[self.kind[sensor]]  # of the logits of charges
        logits = self.network.begin(known) + tilt
        charge = self.network.drawn_charge(logits, uniforms(key, self.pixel_stream, n))
        # u, v and what is seen of the last pixels of clusters, the latest first, then row, before and last
        u, v, k = first_u.to(torch.float32), first_v.to(torch.float32), self.past
        none = seen_charge(torch.zeros(k - 1, n, device=key.device))
        first = [u.repeat(k, 1), v.repeat(k, 1), seen_charge(charge)[None], none, u.repeat(3, 1)]
        state = torch.cat(first)
        clusters, all_u, all_v, charges = [cluster], [u], [v], [charge]
        draws, at = torch.zeros(0, device=key.device), 0
        for i in range(self.longest - 1):
            # classes are in order: those that have all their pixels are at the front
            done = int((self.most[size] <= i + 1).sum())
            if done > 0:
                size, cluster, known, state = size[done:], cluster[done:], known[done:], state[:, done:]
                tilt = tilt[done:]
            n = len(cluster)
            if n == 0:
                break
            if i & (i - 1) == 0:  # numbers for as many steps as there have been
                draws, at = uniforms(key, self.pixel_stream + 1 + i, 2 * max(i, 1) * n), 0
            row, before, last = state[3 * k], state[3 * k + 1], state[3 * k + 2]
            rank = torch.full_like(row, float(i))
            features = past_features(
                state[:k], state[k : 2 * k], state[2 * k : 3 * k], rank, row, before, last
            )
            hidden = self.network.hidden(known, features)
            logits = self.network.step(hidden)
            may_end = int((self.least[size] <= i + 1).sum())  # of these classes some have one more, some not
            logits[may_end:, self.end] = -torch.inf
            if i < self.watched:
                self._keep_inside(logits, state[0], state[k], row)
            step = drawn(logits, draws[at : at + n])[0]
            uniform = draws[at + n : at + 2 * n]
            at += 2 * n
            if may_end > 0:
                on = torch.nonzero(step < self.end).squeeze(1)
                size, cluster, known, state = size[on], cluster[on], known[on], state[:, on]
                tilt = tilt[on]
                hidden, step, uniform = hidden[on], step[on], uniform[on]
                row, before, last = state[3 * k], state[3 * k + 1], state[3 * k + 2]
            charge = self.network.drawn_charge(self.network.charges(hidden, step) + tilt, uniform)
            same = step < self.same
            u = torch.where(same, state[0] + 1, row - (self.same + self.side)) + step
            v = torch.where(same, state[k], state[k] + 1)
            rows = [torch.where(same, row, u), torch.where(same, before, row)]
            rows.append(torch.where(same, last, state[0]))
            pieces = [u[None], state[: k - 1], v[None], state[k : 2 * k - 1], seen_charge(charge)[None]]
            pieces.append(state[2 * k : 3 * k - 1])
            pieces.append(torch.stack(rows))
            state = torch.cat(pieces)
            clusters.append(cluster)
            all_u.append(u)
            all_v.append(v)
            charges.append(charge)
        u, v = torch.cat(all_u).to(torch.int64), torch.cat(all_v).to(torch.int64)
        inside = torch.nonzero((u >= 0) & (u < self.n_u) & (v < self.n_v)).squeeze(1)
        cell = (sensor[torch.cat(clusters)] * self.n_u + u) * self.n_v + v
        return self._rendered(cell[inside], torch.cat(charges)[inside])

    def _keep_inside(self, logits: Tensor, u: Tensor, v: Tensor, row: Tensor) -> None:
        """Make steps (P, STEPS) impossible that lead beyond the sensor."""
        near = (u >= self.n_u - self.same) | (row < self.side) | (row >= self.n_u - self.side)
        near = torch.nonzero(near | (v >= self.n_v - 1)).squeeze(1)
        others = torch.arange(self.end, device=u.device) >= self.same
        there = torch.where(others, row[near, None], u[near, None]) + self.offsets
        beyond = (there < 0) | (there >= self.n_u) | (others & (v[near, None] >= self.n_v - 1))
        inner = logits[near]
        inner[:, : self.end] = inner[:, : self.end].masked_fill(beyond, -torch.inf)
        logits[near] = inner

    def _rendered(self, cell: Tensor, charge: Tensor) -> tuple[Tensor, Tensor]:
        """Hits of pixels, of which several may be on one cell: their charges add up, to the largest."""
        cell, order = cell.sort()
        hit, inverse, _ = torch.unique_consecutive(cell, return_inverse=True, return_counts=True)
        summed = torch.zeros(len(hit), device=cell.device)
        summed.index_add_(0, inverse, charge[order])
        return hit, summed.clamp_max(float(self.largest)).to(torch.uint8)


class Exported(nn.Module):
    """Charges (S, U, V), uint8, of the event of a seed and number; see `PixelModel.script`."""

    def __init__(self, sampler: Sampler) -> None:
        super().__init__()
        self.sampler = sampler
        self.sensors, self.n_u, self.n_v = sampler.sensors, sampler.n_u, sampler.n_v
        self.sources = len(sampler.means)

    def forward(self, seed: int, number: int = 0, rates: Tensor | None = None) -> Tensor:
        """The event, at nominal rates where no rates (B,) are given."""
        device = self.sampler.means.device
        low = 0xFFFFFFFF
        words = [seed & low, (seed >> 32) & low, number & low, (number >> 32) & low]
        key = torch.tensor(words, device=device)
        if rates is None:
            rates = torch.ones(self.sources, device=device)
        cell, charge = self.sampler(key, rates.to(device))
        image = torch.zeros(self.sensors * self.n_u * self.n_v, dtype=torch.uint8, device=device)
        image[cell] = charge
        return image.view(self.sensors, self.n_u, self.n_v)


def _whole(edges: Tensor, bins: Tensor, uniform: Tensor) -> Tensor:
    """A cell of each bin, by uniform numbers."""
    low, high = edges[bins], edges[bins + 1]
    return low + torch.floor(uniform * (high - low)).to(torch.int64).clamp_max(high - low - 1)


def _fineness(detector: PixelDetector) -> NDArray[np.float32]:
    """How much larger than on average the cells of each sensor are along v, (S, V)."""
    sizes = [np.diff(layer.edges_v) for layer in detector.layers]
    return np.stack([10 * (sizes[s.layer] / sizes[s.layer].mean() - 1) for s in detector.sensors]).astype(
        np.float32
    )
