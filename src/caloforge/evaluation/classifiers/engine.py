"""One training for every network: split, learn, keep the best epoch, calibrate.

Classes are numbered; showers of class k lie together in the table of inputs. A network with one output is a
network of two classes whose logit for class 0 is 0. Legend: ``N`` showers in all, ``n`` of a batch, ``K``
classes, ``D`` inputs.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from caloforge.evaluation.classifiers.batches import Batches
from caloforge.evaluation.classifiers.inputs import Layout, Table
from caloforge.evaluation.classifiers.networks import make_network
from caloforge.evaluation.classifiers.scores import Floats, Labels, temperature
from caloforge.evaluation.classifiers.settings import ClassifierSettings
from caloforge.evaluation.classifiers.split import split_rows
from caloforge.evaluation.classifiers.trees import BoostedTrees

__all__ = ["Trained", "fit"]

DRAWING = threading.Lock()
"""Weights are drawn from torch's one generator, by one training at a time."""
AT_ONCE = 1000
"""Showers a network judges at once where no gradients are needed."""


@dataclass(frozen=True, eq=False)
class Trained:
    """A network at its best epoch, and what it says of the held-out showers.

    Attributes:
        network, batches: the network and its inputs.
        epoch: the best one, from 1.
        rows: rows of the table held out to judge, (n,), with their classes ``labels``.
        logits: of these rows, (n, K).
        calibration: logits and classes of the rows that chose the epoch.
        temperature: factor that calibrates the logits.
    """

    network: nn.Module
    batches: Batches
    epoch: int
    rows: NDArray[np.int64]
    labels: Labels
    logits: Floats
    calibration: tuple[Floats, Labels]
    temperature: float

    @property
    def parameters(self) -> int:
        """Trained weights of the network, or leaves of the trees."""
        if isinstance(self.network, BoostedTrees):
            return self.network.leaves
        return sum(p.numel() for p in self.network.parameters())


def fit(
    table: Table,
    layout: Layout,
    sizes: Sequence[int],
    settings: ClassifierSettings,
    seed: Sequence[int],
    device: torch.device,
    *,
    twins: bool = False,
    share: float = 1.0,
    tick: Callable[[], None] = lambda: None,
) -> Trained:
    """Train a network to tell the classes of a table apart, and judge held-out showers with it.

    Args:
        table: inputs, (N, D), class after class.
        layout: what its columns are.
        sizes: showers of each class, (K,).
        settings: of the network and its training.
        seed: of split, weights and order.
        device: where to train.
        twins: row i of every class belongs together, see `split_rows`.
        share: of the showers that train which are used.
        tick: called after every epoch.

    Raises:
        DataError: a class has fewer than 10 showers.
    """
    rng = np.random.default_rng(list(seed))
    labels = np.repeat(np.arange(len(sizes)), sizes)
    train, test, validation = split_rows(sizes, rng, twins=twins)
    train = np.concatenate([r[: max(round(share * len(r)), 2)] for r in _by_class(train, labels)])
    constants = (train, labels[train]) if settings.standardise and not layout.trees else None
    batches = Batches(table, layout, constants, device, settings.memory_limit_gib * 2**30)
    if layout.trees:
        trees = BoostedTrees(settings.trees, int(rng.integers(2**31)))
        order = rng.permutation(train)
        network: nn.Module = trees
        best_epoch = trees.fit(batches(order), labels[order])
        for _ in range(settings.epochs):
            tick()
    else:
        outputs = 1 if len(sizes) == 2 else len(sizes)
        with DRAWING, torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(int(rng.integers(2**63)))
            network = make_network(batches.width, outputs, layout, settings).to(device)
        best_epoch = _train(network, batches, labels, (train, test), settings, rng, tick)
    calibration = (_logits(network, batches, test), labels[test])
    return Trained(
        network=network,
        batches=batches,
        epoch=best_epoch,
        rows=validation,
        labels=labels[validation],
        logits=_logits(network, batches, validation),
        calibration=calibration,
        temperature=temperature(*calibration),
    )


def _train(
    network: nn.Module,
    batches: Batches,
    labels: Labels,
    parts: tuple[NDArray[np.int64], NDArray[np.int64]],
    settings: ClassifierSettings,
    rng: np.random.Generator,
    tick: Callable[[], None],
) -> int:
    """Train the network on the first part of the rows; it is left as it was after its best epoch, from 1."""
    train, test = parts
    optimiser = torch.optim.Adam(network.parameters(), lr=settings.learning_rate)
    if settings.weight_decay:
        optimiser = torch.optim.AdamW(
            network.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay
        )
    best, best_epoch, best_state = -1.0, 0, network.state_dict()
    for epoch in range(1, settings.epochs + 1):
        tick()
        if settings.patience is not None and best_epoch and epoch > best_epoch + settings.patience:
            continue
        network.train()
        order = rng.permutation(train)
        for rows in np.array_split(order, -(-len(order) // settings.batch_size)):
            target = torch.from_numpy(labels[rows]).to(batches.device)
            loss = nn.functional.cross_entropy(_both(network(batches(rows))), target)
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
        accuracy = float((_logits(network, batches, test).argmax(axis=1) == labels[test]).mean())
        if accuracy > best:
            best, best_epoch, best_state = accuracy, epoch, copy.deepcopy(network.state_dict())
    network.load_state_dict(best_state)
    return best_epoch


def _by_class(rows: NDArray[np.int64], labels: Labels) -> list[NDArray[np.int64]]:
    """Rows that lie one class after the other, apart."""
    return np.split(rows, np.cumsum(np.bincount(labels[rows]))[:-1])


def _both(logits: Tensor) -> Tensor:
    """Logits of all classes, (n, K): a single output is the logit of class 1, that of class 0 is 0."""
    return nn.functional.pad(logits, (1, 0)) if logits.shape[1] == 1 else logits


def _logits(network: nn.Module, batches: Batches, rows: NDArray[np.int64]) -> Floats:
    """Logits of all classes for these rows, (n, K)."""
    network.eval()
    with torch.inference_mode():
        parts = [
            _both(network(batches(rows[start : start + AT_ONCE]))).cpu().numpy()
            for start in range(0, len(rows), AT_ONCE)
        ]
    return np.concatenate(parts).astype(np.float64)
