"""A trained classifier as a diagnostic: its weights, the inputs it relies on, the showers it is sure of.

After arXiv:2305.16774. Legend: ``n`` showers, ``D`` inputs, ``G`` groups of inputs, ``B`` bins.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from caloforge.detector import Mesh
from caloforge.evaluation.classifiers.engine import Trained
from caloforge.evaluation.classifiers.inputs import Columns, Layout, Sample
from caloforge.evaluation.classifiers.networks import Dense, ResNet18
from caloforge.evaluation.classifiers.scores import Floats, auc
from caloforge.evaluation.classifiers.trees import BoostedTrees
from caloforge.evaluation.results import Diagnosis, FeatureShare, TellTale

__all__ = ["diagnose"]

BINS = 60
SHUFFLINGS = 3
TAILS = 10
FEATURES = 20
STRIKING = 10
DENSE_SHOWERS = 2000
TREE_SHOWERS = 1000
IMAGE_SHOWERS = 300
"""Held-out showers that are shuffled; fewer for trees and networks on images, which are slower."""
GAINING = 30
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
    rng = np.random.default_rng([seed, 2])
    table = _Table(trained, [len(r) for r in rows], rng)
    singles = layout.features | _striking_cells(table, layout, samples[0][0].mesh)
    alone = dict(zip(singles, _alone(table, layout, list(singles.values())), strict=True))
    if isinstance(trained.network, BoostedTrees):
        singles = _promising(trained.network, singles, alone)
    groups = {f"all {name}": columns for name, columns in layout.groups.items()}
    shares = _shares(trained, groups | singles, rng)
    origin = np.concatenate(rows)[trained.rows]
    energy = np.concatenate([s.conditions.energy[r] for (s, _), r in zip(samples, rows, strict=True)])
    energy = energy[trained.rows]

    def tails(chosen: Rows) -> list[TellTale]:
        return [
            TellTale(row=int(origin[i]), log_weight=float(log_weights[i]), incident_energy=float(energy[i]))
            for i in chosen[:TAILS]
        ]

    order = np.argsort(log_weights, kind="stable")
    return Diagnosis(
        edges=edges,
        reference=np.histogram(inside[real], edges)[0].astype(np.float64),
        generated=np.histogram(inside[~real], edges)[0].astype(np.float64),
        features=_foremost([s.replace(alone=alone[s.name]) for s in shares[len(groups) :]]),
        groups=sorted(shares[: len(groups)], key=lambda s: -s.drop),
        generated_tails=tails(order[~real[order]]),
        reference_tails=tails(order[::-1][real[order[::-1]]]),
    )


def _weight_edges(log_weights: Floats) -> Floats:
    """Equal bins around 0 that hold 99 % of the showers, (B + 1,)."""
    largest = float(np.quantile(np.abs(log_weights), 0.99))
    return np.asarray(np.linspace(-1, 1, BINS + 1) * max(np.ceil(largest * 10) / 10, 0.1))


def _foremost(shares: list[FeatureShare]) -> list[FeatureShare]:
    """The ten with the largest drop and the ten that tell most alone, largest drop first.

    Drops that agree to two digits are noise, or small because other inputs say the same; such features are
    ordered by what they tell alone.
    """
    half, alone = FEATURES // 2, [float(np.nan_to_num(s.alone)) for s in shares]
    by_drop = sorted(range(len(shares)), key=lambda i: (-round(shares[i].drop, 2), -alone[i]))
    by_alone = sorted(range(len(shares)), key=lambda i: -alone[i])
    chosen = {*by_drop[:half], *by_alone[:half]}
    return [shares[i] for i in by_drop if i in chosen]


def _promising(
    trees: BoostedTrees, singles: Mapping[str, Columns], alone: Mapping[str, float]
) -> dict[str, Columns]:
    """The inputs that trees gain most from, and those that tell most alone: trees are slow to shuffle for."""
    gains = trees.gains(1 + max(int(c.max()) for c in singles.values()))
    by_gain = sorted(singles, key=lambda name: -gains[singles[name]].sum())[:GAINING]
    by_alone = sorted(singles, key=lambda name: -np.nan_to_num(alone[name]))[: FEATURES // 2]
    return {name: singles[name] for name in dict.fromkeys([*by_gain, *by_alone])}


class _Table:
    """Rows of a classifier's table, at most `ALONE_SHOWERS`, in batches, and their classes."""

    def __init__(self, trained: Trained, sizes: Sequence[int], rng: np.random.Generator) -> None:
        self._batches = trained.batches
        self._rows = np.sort(rng.permutation(sum(sizes))[:ALONE_SHOWERS])
        self.labels = np.repeat(np.arange(len(sizes)), sizes)[self._rows]

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Inputs (n, D) in double precision and classes (n,)."""
        for start in range(0, len(self._rows), CHUNK):
            values = self._batches.raw(self._rows[start : start + CHUNK]).double()
            yield values, torch.from_numpy(self.labels[start : start + CHUNK]).to(values.device)


def _striking_cells(table: _Table, layout: Layout, mesh: Mesh) -> dict[str, Columns]:
    """The cells, at most ten, whose mean √(E / E_inc) differs by more than five standard errors."""
    n_cells = layout.cells.stop - layout.cells.start
    if not n_cells:
        return {}
    sums = torch.zeros(2, 2, n_cells, dtype=torch.float64)  # class; sum and sum of squares
    for values, labels in table:
        roots = values[:, layout.cells].clamp(min=0.0).sqrt()
        for label in (0, 1):
            of = roots[labels == label]
            sums[label] += torch.stack([of.sum(dim=0), (of**2).sum(dim=0)]).cpu()
    count = torch.from_numpy(np.bincount(table.labels, minlength=2))[:, None, None]
    mean, square = (sums / count).unbind(dim=1)
    errors = ((square - mean**2).clamp(min=0.0) / count[:, 0]).sum(dim=0).sqrt()
    apart = ((mean[1] - mean[0]).abs() / errors.clamp(min=1e-300)).numpy()
    striking = [int(c) for c in np.argsort(-apart, kind="stable")[:STRIKING] if apart[c] > 5]
    return {_cell_name(c, mesh): np.array([layout.cells.start + c]) for c in striking}


def _cell_name(cell: int, mesh: Mesh) -> str:
    """``cell (12, 3, 1)``: layer, φ or y, r or x from 0; on ragged meshes ``cell 7 of layer 2``."""
    if mesh.is_regular:
        return f"cell {tuple(int(i) for i in np.unravel_index(cell, mesh.shape))}"
    layer = int(mesh.voxel_layers[cell])
    return f"cell {cell - int(mesh.layer_offsets[layer])} of layer {mesh.layer_numbers[layer]}"


def _alone(table: _Table, layout: Layout, features: Sequence[Columns]) -> list[float]:
    """AUC, 0.5 or more, of each feature: a cell, the sum of a layer's cells, an energy relative to E_inc.

    NaN for what is none of these.
    """
    cells, energies = layout.cells, torch.from_numpy(layout.energies[1:])
    members = [c[(c >= cells.start) & (c < cells.stop)] if len(c) > 1 else c for c in features]
    sums = []
    for values, _ in table:
        values[:, energies] -= values[:, :1]
        sums.append(torch.stack([values[:, torch.from_numpy(m)].sum(dim=1) for m in members]).cpu().numpy())
    areas = auc(np.concatenate(sums, axis=1), table.labels)
    return [float(max(a, 1 - a)) if len(m) else math.nan for a, m in zip(areas, members, strict=True)]


def _shares(trained: Trained, names: Mapping[str, Columns], rng: np.random.Generator) -> list[FeatureShare]:
    """The drop in AUC where the inputs of each group are shuffled among the showers.

    The showers of both classes are shuffled together, so that the inputs of a group keep what they say of
    each other and lose what they say of the class.
    """
    limits = {ResNet18: IMAGE_SHOWERS, BoostedTrees: TREE_SHOWERS}
    limit = limits.get(type(trained.network), DENSE_SHOWERS)
    chosen = rng.permutation(len(trained.rows))[:limit]
    labels = trained.labels[chosen]
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
    return [
        FeatureShare(name=name, drop=float(d.mean()), error=float(d.std(ddof=1)))
        for name, d in zip(names, drops.T, strict=True)
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
