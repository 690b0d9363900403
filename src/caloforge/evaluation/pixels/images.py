"""FID and KID of sensor images, in the features of a network that tells the sensors apart.

Legend: ``N`` events, ``S`` sensors, ``I`` images, ``D`` features.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from caloforge.data.pixels import PixelEvents
from caloforge.evaluation.distances.fpd import frechet_distance
from caloforge.evaluation.pixels.chance import Rows, against_chance, deal_events
from caloforge.evaluation.pixels.reading import Sample
from caloforge.evaluation.progress import Fraction
from caloforge.evaluation.results import Estimate, SensorNetworkRecord

__all__ = ["SensorNetwork", "compare_images", "kid", "train_network"]

Floats = NDArray[np.float64]

IMAGES = 12_000
"""The network sees in training."""
MOST_TRAINING, MOST_EVENTS = 300, 400
"""Events to train on, and of each sample to compare."""
EVENTS_A_STEP, EVENTS_MIXED, BATCH = 2, 10, 80
LEARNING_RATE, WEIGHT_DECAY = 2e-3, 1e-2
DROPOUT, NORM_EVENTS = 0.3, 50
KID_SUBSETS, KID_SIZE = 5, 1000


class SensorNetwork(nn.Module):
    """Images (I, U, V) of charges → scores of the sensors (I, S).

    Four convolutions, the first of 8 × 8 cells at every fourth, so that it sees whole clusters; their means
    in six parts along v, from which a linear layer tells the sensors. Features are the means over the image.
    """

    widths = (16, 32, 64, 128)
    parts = 6

    def __init__(self, sensors: int) -> None:
        super().__init__()
        stages: list[nn.Module] = []
        before = 1
        for i, width in enumerate(self.widths):
            size, step, edge = (8, 4, 4) if i == 0 else (3, 2, 1)
            stages += [
                nn.Conv2d(before, width, size, step, edge, bias=False),
                nn.BatchNorm2d(width),
                nn.ReLU(inplace=True),
            ]
            before = width
        self.stages = nn.Sequential(*stages, nn.AdaptiveAvgPool2d((1, self.parts)))
        self.head = nn.Sequential(
            nn.BatchNorm1d(before * self.parts), nn.Dropout(DROPOUT), nn.Linear(before * self.parts, sensors)
        )

    def maps(self, images: Tensor) -> Tensor:
        """(I, D, parts) of uint8 charges (I, U, V)."""
        scaled = torch.log1p(images.float()).unsqueeze(1) / float(np.log(256))
        found: Tensor = self.stages(scaled.contiguous(memory_format=torch.channels_last))
        return found.squeeze(2)

    def forward(self, images: Tensor) -> Tensor:
        scores: Tensor = self.head(self.maps(images).flatten(1))
        return scores


def _batches(events: PixelEvents, device: torch.device) -> Iterator[Tensor]:
    """Images of a few events at a time, (n · S, U, V)."""
    for hits, _ in events.batches(EVENTS_A_STEP):
        yield torch.from_numpy(hits.dense()).flatten(0, 1).to(device)


def _mixed(events: PixelEvents, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Without end, images and the numbers of their sensors, of several events mixed.

    Norms of a batch of a single event would take its rate away. Images are rolled along u and half of them
    mirrored in it, anew every time, so that hits cannot be learnt by heart.
    """
    random = np.random.default_rng((seed, 5))
    while True:
        for hits, _ in events[random.permutation(len(events))].batches(EVENTS_MIXED):
            images = torch.from_numpy(hits.dense()).flatten(0, 1)
            order = random.permutation(len(images))
            for rows in np.array_split(order, -(-len(order) // BATCH)):
                batch = images[rows].roll(int(random.integers(hits.shape[1])), dims=1)
                mirrored = torch.from_numpy(random.random(len(rows)) < 0.5)[:, None, None]
                yield torch.where(mirrored, batch.flip(1), batch), torch.from_numpy(rows % hits.shape[0])


def train_network(
    events: PixelEvents, seed: int, device: torch.device, report: Fraction, images: int = IMAGES
) -> SensorNetwork:
    """A network that tells the sensors of true events apart, trained on so many images; minutes on a CPU."""
    # of weights and of what dropout drops
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        network = SensorNetwork(events.detector.shape[0])
        network = network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        steps = max(1, images // BATCH)
        optimiser = torch.optim.AdamW(network.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, LEARNING_RATE, total_steps=steps)
        for step, (batch, target) in enumerate(itertools.islice(_mixed(events, seed), steps), start=1):
            loss = nn.functional.cross_entropy(network(batch.to(device)), target.to(device))
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            schedule.step()
            report(step / steps)
        return _settled(network, events, device)


def _settled(network: SensorNetwork, events: PixelEvents, device: torch.device) -> SensorNetwork:
    """With the statistics of its batch norms measured anew, by the weights that it has now."""
    norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain mean over the batches
    with torch.no_grad():
        for batch in _batches(events[:NORM_EVENTS], device):
            network(batch)
    return network.eval()


def _features(
    network: SensorNetwork, events: PixelEvents, device: torch.device, report: Fraction
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Features of every image, (N, S, D), and the sensors that the network names, (N, S)."""
    sensors = events.detector.shape[0]
    parts, named = [], []
    with torch.inference_mode():
        for i, batch in enumerate(_batches(events, device)):
            maps = network.maps(batch)
            parts.append(maps.mean(dim=2).cpu().numpy().reshape(-1, sensors, maps.shape[1]))
            named.append(network.head(maps.flatten(1)).argmax(dim=1).cpu().numpy().reshape(-1, sensors))
            report(min((i + 1) * EVENTS_A_STEP / len(events), 1.0))
    return np.concatenate(parts), np.concatenate(named)


def compare_images(
    truth: Sample,
    generated: Sample,
    second: Sample | None,
    training: PixelEvents | None,
    seed: int,
    device: torch.device,
    report: Callable[[str, float], None],
    images: int = IMAGES,
) -> tuple[dict[str, Estimate], SensorNetworkRecord]:
    """FID and KID of generated against true images, and what the network can do.

    The network is trained on ``training``, or else on a third of the truth, and the distances are measured
    with other events: images that a network has seen look different to it.
    """
    start = time.monotonic()
    order = np.random.default_rng((seed, 11)).permutation(len(truth))
    if training is None:
        part = min(max(len(truth) // 3, 1), MOST_TRAINING)
        learn, rest = truth.events[np.sort(order[:part])], np.sort(order[part:])
    else:
        learn, rest = training[:MOST_TRAINING], np.arange(len(truth))
    network = train_network(learn, seed, device, partial(report, "sensor network"), images)
    seconds = time.monotonic() - start
    rest = np.sort(np.random.default_rng((seed, 12)).permutation(rest)[: 2 * MOST_EVENTS])
    deals = deal_events(truth, generated, second, seed, rows=rest)
    samples = {"truth": truth, "generated": generated} | ({"second reference": second} if second else {})
    found: dict[int, NDArray[np.float32]] = {}
    named = {}
    for name, sample in samples.items():
        rows = np.unique(np.concatenate([side for deal in deals for side in deal.rows_of(sample, truth)]))
        features, named[name] = _features(
            network, sample.events[rows], device, partial(report, f"features, {name}")
        )
        found[id(sample)] = np.full((len(sample), *features.shape[1:]), np.nan, dtype=np.float32)
        found[id(sample)][rows] = features

    def of(sample: Sample, rows: Rows) -> Floats:
        chosen = found[id(sample)][rows]
        return chosen.reshape(-1, chosen.shape[-1]).astype(np.float64)

    def fid(one: tuple[Sample, Rows], other: tuple[Sample, Rows]) -> float:
        moments = [(x.mean(axis=0), np.cov(x, rowvar=False)) for x in (of(*one), of(*other))]
        return frechet_distance(moments[0], moments[1])

    report("FID and KID", 0.0)
    distances = {
        "fid": against_chance(truth, generated, deals, fid),
        "kid": against_chance(truth, generated, deals, lambda one, other: kid(of(*one), of(*other), seed)),
    }
    report("FID and KID", 1.0)
    ends = truth.events.detector.sensor_kinds
    right = np.arange(len(ends))
    return distances, SensorNetworkRecord(
        parameters=sum(p.numel() for p in network.parameters()),
        features=SensorNetwork.widths[-1],
        events=len(learn),
        images=images,
        accuracy=float((named["truth"] == right).mean()),
        accuracy_end=float((ends[named["truth"]] == ends).mean()),
        accuracy_generated=float((named["generated"] == right).mean()),
        held_out=named["truth"].size,
        seconds=seconds,
    )


def kid(first: Floats, second: Floats, seed: int) -> float:
    """Kernel inception distance: mean of the unbiased MMD² of subsets of 1000 images, kernel (x·y / D + 1)³.

    M. Bińkowski et al., ICLR 2018, arXiv:1801.01401.

    Args:
        first, second: features, (I, D).
        seed: of the subsets.
    """
    random = np.random.default_rng((seed, 13))
    n = min(KID_SIZE, len(first), len(second))

    def kernel(x: Floats, y: Floats) -> Floats:
        product = x @ y.T / x.shape[1] + 1
        return np.asarray(product * product * product)

    values = []
    for _ in range(KID_SUBSETS):
        x, y = (part[random.permutation(len(part))[:n]] for part in (first, second))
        own = [(k.sum() - np.trace(k)) / (n * (n - 1)) for k in (kernel(x, x), kernel(y, y))]
        values.append(own[0] + own[1] - 2 * kernel(x, y).mean())
    return float(np.mean(values))
