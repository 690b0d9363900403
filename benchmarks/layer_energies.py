"""Which model of the layer energies is best: trainings of equal length, judged by layer energies alone.

    python benchmarks/layer_energies.py TRAIN.h5 TEST.h5 [--minutes 4] [--models inductive transformer ...]

Each model is trained for so many minutes of CPU time on nine tenths of the training showers; the average of
the weights that is best on the rest makes a shower for each test shower. Printed are, per model,

* ``loss``: of the showers held out; it is a density only of coordinates that differ between models;
* ``mlp``, ``trees``: AUC of networks and boosted trees that see log E_inc, the total and all layer energies,
  five folds, mean ± spread over seeds; the floor is that of training showers against test showers;
* ``widths``: standard deviation, generated over Geant4, of the centre of gravity in z, of the spread in z, of
  the response, and of the asymmetry of layers that lie 1 and 8 apart, each but the response and asymmetries
  without its trend in log E_inc;
* ``correlations``: rms difference of the correlations of log(E_i/E_inc), without trend, between all layers;
* ``lit``: layers with energy, generated over Geant4; and milliseconds a shower.
"""

from __future__ import annotations

import argparse
import math
import time
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn
from torch.nn import functional as F

from caloforge.data import open_showers
from caloforge.models.base import ConditionTensors
from caloforge.models.conditions.incident import IncidentContext
from caloforge.models.energies.base import ENERGIES, LayerEnergyModel, layer_energy_model

Array = NDArray[np.float32]
MODELS = {
    "autoregressive": {"kind": "autoregressive", "hidden": 64, "blocks": 4, "dropout": 0.1},
    "inductive": {"kind": "inductive", "hidden": 96, "depth": 3, "bins": 12, "bound": 5.0},
    "transformer": {"kind": "transformer"},
    "transformer-cfm": {"kind": "transformer", "head": "flow-matching", "depth": 2},
}
FOLDS, BATCH, EVERY = 5, 128, 200


def read(path: Path) -> tuple[Tensor, ConditionTensors, float]:
    """Layer energies (n, Z) in MeV, conditions, and the least energy of a cell."""
    showers = open_showers(path)
    sums, least = [], math.inf
    for energies, _ in showers.batches(1000):
        sums.append(torch.from_numpy(energies.sum(axis=(2, 3))))
        least = min(least, float(energies[energies > 0].min()))
    return torch.cat(sums), ConditionTensors.of(showers.conditions), least * (1 - 1e-6)


def train(
    model: LayerEnergyModel,
    energies: Tensor,
    incident: Tensor,
    context: Tensor,
    threshold: float,
    minutes: float,
    rate: float,
) -> float:
    """Train for minutes of CPU time, leave the best average of the weights and return its loss."""
    held = len(energies) // 10
    kept = slice(held, None)
    model.begin_fit()
    model.fit_batch(energies[kept], incident[kept], threshold)
    model.end_fit()
    optimiser = torch.optim.AdamW(model.parameters(), rate, betas=(0.9, 0.99), weight_decay=0.01)
    average = [p.detach().clone() for p in model.parameters()]
    best, best_weights, step, generator = math.inf, average, 0, torch.Generator().manual_seed(1)
    start = time.process_time()
    while (done := (time.process_time() - start) / (60 * minutes)) < 1:
        for group in optimiser.param_groups:
            group["lr"] = rate * min(done / 0.05, 0.5 * (1 + math.cos(math.pi * done)) + 1e-3)
        rows = torch.randint(held, len(energies), (BATCH,), generator=generator)
        loss = model.loss(energies[rows], incident[rows], context[rows], threshold, generator).mean()
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 20.0)
        optimiser.step()
        step += 1
        with torch.no_grad():
            for a, p in zip(average, model.parameters(), strict=True):
                a.lerp_(p, max(0.003, 1 / (step + 1)))
            if step % EVERY:
                continue
            current = [p.clone() for p in model.parameters()]
            set_weights(model.eval(), average)
            first = slice(0, held)
            fixed = torch.Generator().manual_seed(2)
            value = float(
                model.loss(energies[first], incident[first], context[first], threshold, fixed).mean()
            )
            if value < best:
                best, best_weights = value, [a.clone() for a in average]
            set_weights(model.train(), current)
            print(f"  {done:5.0%} step {step} loss {value:.3f}", flush=True)
    set_weights(model.eval(), best_weights)
    return best


@torch.no_grad()
def set_weights(model: nn.Module, weights: list[Tensor]) -> None:
    for p, weight in zip(model.parameters(), weights, strict=True):
        p.copy_(weight)


def inputs(energies: Array, incident: Array, threshold: float) -> Array:
    """What the classifiers see, (n, 2 + Z)."""
    total = energies.sum(axis=1, keepdims=True)
    logs = [
        incident[:, None],
        np.maximum(total, threshold) / incident[:, None],
        np.maximum(energies, 0.3 * threshold) / threshold,
    ]
    return np.log(np.concatenate(logs, axis=1)).astype(np.float32)


def network_scores(x: Array, y: Array, tested: Array) -> Array:
    """Scores of ``tested`` by two small networks that are trained on x and y."""
    mean, std = x.mean(axis=0), x.std(axis=0) + 1e-3
    inputs, labels, scores = (
        torch.from_numpy((x - mean) / std),
        torch.from_numpy(y),
        np.zeros(len(tested), "f4"),
    )
    for _ in range(2):
        network = nn.Sequential(
            nn.Linear(x.shape[1], 128),
            nn.SiLU(),
            nn.Dropout(0.1),
            nn.Linear(128, 128),
            nn.SiLU(),
            nn.Dropout(0.1),
            nn.Linear(128, 1),
        )
        epochs, steps = 25, -(-len(x) // 100)
        optimiser = torch.optim.AdamW(network.parameters(), 1e-3, weight_decay=0.05)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 2e-3, total_steps=epochs * steps)
        for _ in range(epochs):
            for rows in torch.randperm(len(x)).split(100):
                loss = F.binary_cross_entropy_with_logits(network(inputs[rows])[:, 0], labels[rows])
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
                schedule.step()
        with torch.no_grad():
            scores += network.eval()(torch.from_numpy((tested - mean) / std))[:, 0].numpy()
    return scores


def auc(real: Array, generated: Array, seed: int, *, trees: bool) -> float:
    """Mean AUC over folds; rows with the same incident energy, if any, are in the same fold."""
    torch.manual_seed(seed)
    x = np.concatenate([real, generated])
    y = np.repeat(np.array([1, 0], np.float32), [len(real), len(generated)])
    _, shower = np.unique(x[:, 0], return_inverse=True)
    fold = np.random.default_rng(seed).integers(FOLDS, size=shower.max() + 1)[shower]
    values = []
    for k in range(FOLDS):
        seen, tested = fold != k, fold == k
        if trees:
            forest = HistGradientBoostingClassifier(max_iter=80, learning_rate=0.06, max_leaf_nodes=12)
            scores = forest.fit(x[seen], y[seen]).decision_function(x[tested])
        else:
            scores = network_scores(x[seen], y[seen], x[tested])
        values.append(roc_auc_score(y[tested], scores))
    return float(np.mean(values))


def without_trend(values: Array, incident: Array) -> Array:
    powers = np.log(incident)[:, None] ** np.arange(4)
    return np.asarray(values - powers @ np.linalg.lstsq(powers, values, rcond=None)[0])


def observables(energies: Array, incident: Array, threshold: float) -> tuple[Array, Array]:
    """Widths of five observables, and the correlations between layers (Z, Z)."""
    z, total = np.arange(energies.shape[1]), energies.sum(axis=1)
    centre = (energies * z).sum(axis=1) / total
    spread = np.sqrt((energies * (z - centre[:, None]) ** 2).sum(axis=1) / total)
    asymmetries = [
        ((a - b) / np.maximum(a + b, threshold)).std(axis=0).mean()
        for a, b in ((energies[:, 4:20], energies[:, 4 + k : 20 + k]) for k in (1, 8))
    ]
    widths = [without_trend(centre, incident).std(), without_trend(spread, incident).std()]
    logs = np.log(np.maximum(energies, 0.3 * threshold) / incident[:, None])
    correlations = np.corrcoef(without_trend(logs, incident).T)
    return np.array([*widths, (total / incident).std(), *asymmetries]), correlations


def report(
    name: str, real: tuple[Array, Array], made: tuple[Array, Array], threshold: float, seeds: int
) -> str:
    """One row of the table; both are layer energies (n, Z) and incident energies (n,)."""
    x, y = inputs(*real, threshold), inputs(*made, threshold)
    columns = []
    for trees in (False, True):
        values = [auc(x, y, seed, trees=trees) for seed in range(seeds)]
        columns.append(f"{np.mean(values):.3f} ± {np.std(values):.3f}")
    (widths, correlations), (own, found) = observables(*real, threshold), observables(*made, threshold)
    difference = (correlations - found)[np.triu_indices(len(found), 1)]
    columns += [
        " ".join(f"{ratio:.2f}" for ratio in own / widths),
        f"{np.sqrt(np.nanmean(difference**2)):.3f}",
    ]
    return " | ".join([name, *columns, f"{(made[0] > 0).mean() / (real[0] > 0).mean():.3f}"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("train", type=Path)
    parser.add_argument("test", type=Path)
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=list(MODELS))
    parser.add_argument("--minutes", type=float, default=4.0)
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    energies, conditions, threshold = read(arguments.train)
    tested, test_conditions, _ = read(arguments.test)
    incident = IncidentContext()
    incident.begin_fit()
    incident.fit_batch(conditions)
    incident.end_fit()
    context, test_context = incident(conditions), incident(test_conditions)
    real = (tested.numpy(), test_conditions.energy.numpy())
    rows = [
        "model | mlp | trees | widths: centre, spread, response, asymmetries | correlations | lit | loss | ms"
    ]
    part = np.random.default_rng(0).permutation(len(energies))[: len(tested)]
    floor = (energies.numpy()[part], conditions.energy.numpy()[part])
    rows.append(report("floor", real, floor, threshold, arguments.seeds))
    print(*rows, sep="\n", flush=True)
    for name in arguments.models:
        torch.manual_seed(0)
        settings = ENERGIES.settings(MODELS[name])
        model = layer_energy_model(settings, energies.shape[1], IncidentContext.size)
        loss = train(
            model, energies, conditions.energy, context, threshold, arguments.minutes, arguments.rate
        )
        noise = torch.randn(len(tested), model.noise_size, generator=torch.Generator().manual_seed(3))
        start = time.process_time()
        with torch.no_grad():
            made = [
                model.sample(z, e, c, threshold)
                for z, e, c in zip(
                    noise.split(100), test_conditions.energy.split(100), test_context.split(100), strict=True
                )
            ]
        ms = 1e3 * (time.process_time() - start) / len(tested)
        row = report(name, real, (torch.cat(made).numpy(), real[1]), threshold, arguments.seeds)
        rows.append(f"{row} | {loss:.2f} | {ms:.2f}")
        print(rows[-1], flush=True)
    print("", *rows, sep="\n")


if __name__ == "__main__":
    main()
