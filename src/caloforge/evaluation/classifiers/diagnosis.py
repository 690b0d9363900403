"""A trained classifier as a diagnostic: its weights, the inputs it relies on, the showers it is sure of.

After arXiv:2305.16774. Legend: ``n`` showers, ``D`` inputs, ``G`` groups of inputs, ``B`` bins.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from caloforge.evaluation.classifiers.engine import Trained
from caloforge.evaluation.classifiers.inputs import Layout, Sample
from caloforge.evaluation.classifiers.networks import Dense
from caloforge.evaluation.classifiers.scores import Floats, auc
from caloforge.evaluation.results import Diagnosis, FeatureShare, TellTale

__all__ = ["diagnose"]

BINS = 60
SHUFFLINGS = 3
TAILS = 10
FEATURES = 20
DENSE_SHOWERS = 2000
IMAGE_SHOWERS = 300
"""Held-out showers that are shuffled; fewer for networks on images, which are much slower."""
ALONE_SHOWERS = 20_000
CHUNK = 500

Rows = NDArray[np.int64]


def diagnose(
    trained: Trained, layout: Layout, samples: Sequence[Sample], rows: Sequence[Rows], *, seed: int
) -> Diagnosis:
    """What a classifier of two classes saw.

    Args:
        trained: the network with its held-out showers.
        layout: what the columns of its table are.
        samples: generated and reference showers.
        rows: which of them are in the table, one array a sample.
        seed: of the shufflings.
    """
    log_weights = trained.temperature * (trained.logits[:, 1] - trained.logits[:, 0])
    real = trained.labels == 1
    edges = _weight_edges(log_weights)
    inside = np.clip(log_weights, edges[0], edges[-1])
    shares = _shares(trained, layout, [len(r) for r in rows], np.random.default_rng([seed, 2]))
    origin = np.concatenate(rows)[trained.rows]
    energy = np.concatenate([s.conditions.energy[r] for (s, _), r in zip(samples, rows, strict=True)])
    energy = energy[trained.rows]

    def tails(chosen: Rows) -> list[TellTale]:
        return [TellTale(int(origin[i]), float(log_weights[i]), float(energy[i])) for i in chosen[:TAILS]]

    order = np.argsort(log_weights, kind="stable")
    return Diagnosis(
        edges=edges,
        reference=np.histogram(inside[real], edges)[0].astype(np.float64),
        generated=np.histogram(inside[~real], edges)[0].astype(np.float64),
        features=_foremost(shares[len(layout.groups) :]),
        groups=sorted(shares[: len(layout.groups)], key=lambda s: -s.drop),
        generated_tails=tails(order[~real[order]]),
        reference_tails=tails(order[::-1][real[order[::-1]]]),
    )


def _weight_edges(log_weights: Floats) -> Floats:
    """Equal bins around 0 that hold 99 % of the showers, (B + 1,)."""
    largest = float(np.quantile(np.abs(log_weights), 0.99))
    return np.asarray(np.linspace(-1, 1, BINS + 1) * max(np.ceil(largest * 10) / 10, 0.1))


def _foremost(shares: list[FeatureShare]) -> list[FeatureShare]:
    """The ten with the largest drop and the ten that tell most alone, largest drop first."""
    half = FEATURES // 2
    by_drop = sorted(range(len(shares)), key=lambda i: -shares[i].drop)
    by_alone = sorted(range(len(shares)), key=lambda i: -shares[i].alone)
    return [shares[i] for i in by_drop if i in by_drop[:half] or i in by_alone[:half]]


def _shares(
    trained: Trained, layout: Layout, sizes: Sequence[int], rng: np.random.Generator
) -> list[FeatureShare]:
    """The drop in AUC where the inputs of a group are shuffled among the showers; groups, then features.

    The showers of both classes are shuffled together, so that the inputs of a group keep what they say of
    each other and lose what they say of the class.
    """
    dense = isinstance(trained.network, Dense)
    limit = DENSE_SHOWERS if dense else IMAGE_SHOWERS
    chosen = rng.permutation(len(trained.rows))[:limit]
    labels = trained.labels[chosen]
    names = {**{f"all {name}": c for name, c in layout.groups.items()}, **layout.features}
    columns = [trained.batches.columns(c) for c in names.values()]
    trained.network.eval()
    with torch.inference_mode():
        inputs = trained.batches(trained.rows[chosen])
        plain = auc(_scores(trained, inputs), labels)
        shuffled = [
            auc(_shuffled_scores(trained, inputs, rng.permutation(len(chosen)), columns), labels)
            for _ in range(SHUFFLINGS)
        ]
    drops = plain - np.stack(shuffled)
    alone = np.r_[np.full(len(layout.groups), np.nan), _alone(trained, layout, sizes, rng)]
    return [
        FeatureShare(name, float(d.mean()), float(d.std(ddof=1)), float(a))
        for name, d, a in zip(names, drops.T, alone, strict=True)
    ]


def _scores(trained: Trained, inputs: Tensor) -> Floats:
    return np.asarray(trained.network(inputs)[:, 0].cpu().numpy(), dtype=np.float64)


def _shuffled_scores(trained: Trained, inputs: Tensor, order: Rows, groups: Sequence[Tensor]) -> Floats:
    """Logits with the inputs of each group taken from other showers, (G, n).

    A dense network's first layer is linear, so only the change of a group's columns passes through it.
    """
    network, other = trained.network, inputs[torch.from_numpy(order).to(inputs.device)]
    scores = []
    if isinstance(network, Dense):
        before, change, weights = network.first(inputs), other - inputs, network.first.weight
        for columns in groups:
            hidden = before + change[:, columns] @ weights[:, columns].T  # (n, hidden)
            scores.append(network.rest(hidden)[:, 0])
    else:
        for columns in groups:
            mixed = inputs.clone()
            mixed[:, columns] = other[:, columns]
            scores.append(network(mixed)[:, 0])
    return np.asarray(torch.stack(scores).cpu().numpy(), dtype=np.float64)


def _alone(trained: Trained, layout: Layout, sizes: Sequence[int], rng: np.random.Generator) -> Floats:
    """AUC, at least 0.5, of the sum of each feature's inputs alone, energies relative to E_inc, (G,)."""
    rows = np.sort(rng.permutation(sum(sizes))[:ALONE_SHOWERS])
    owner = torch.zeros(layout.width, dtype=torch.int64, device=trained.batches.device)
    for i, columns in enumerate(layout.features.values()):
        owner[torch.from_numpy(columns)] = i
    energies = torch.from_numpy(layout.energies[1:])
    sums = []
    for start in range(0, len(rows), CHUNK):
        values = trained.batches.raw(rows[start : start + CHUNK]).double()
        values[:, energies] -= values[:, :1]
        empty = values.new_zeros(len(values), len(layout.features))
        sums.append(empty.index_add_(1, owner, values).cpu().numpy())
    areas = auc(np.concatenate(sums).T, np.repeat(np.arange(len(sizes)), sizes)[rows])
    return np.maximum(areas, 1 - areas)
