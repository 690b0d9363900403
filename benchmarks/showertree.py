"""A trained ShowerTree looked into: likelihood of other showers, coherence across layers and rings, time.

    python benchmarks/showertree.py test.h5 [--model showertree-siw] [--showers 3000]

``test.h5`` holds electrons of 1-50 GeV in par04-siw that the model was not trained on. Printed are

* nats a shower, the mean negative log-likelihood of the first 500, by part;
* how the lean of a layer in φ, the mean of its directions weighted by energy, goes together with that of
  layers further on, and that of a ring with the next one's in its layer, for Geant4 and the model (means of
  scalar products over layers or rings of more than 20 MeV);
* processor milliseconds of one thread a shower by kernels and precision, one at a time and in blocks, without
  the drawing of noise.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import torch
from numpy.typing import NDArray

import caloforge
from caloforge import Checkpoint
from caloforge.data import Showers, open_showers
from caloforge.errors import CaloforgeError
from caloforge.models.base import Batch, ConditionTensors, GeneratorModel

JUDGED = 500
LEAST_MEV = 20.0
STEPS = (0, 1, 2, 4, 8)
BLOCKS = {1: 60, 64: 4}
"""Showers at once, and how often."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("showers")
    parser.add_argument("--model", default="showertree-siw")
    parser.add_argument("--showers", dest="n", type=int, default=3000)
    options = parser.parse_args()
    torch.set_num_threads(1)
    checkpoint, truth = Checkpoint.load(options.model), open_showers(options.showers)[: options.n]
    likelihood = nats(checkpoint.model("cpu"), truth)
    print("nats a shower:", ", ".join(f"{part} {value:.3f}" for part, value in likelihood.items()))
    made = caloforge.generate(checkpoint, like=truth, seed=2, threads=1, progress=False)
    for name, showers in (("Geant4", truth), ("model", made)):
        layers, rings = lean(np.asarray(showers.energies))
        apart = " ".join(f"{step}: {value:.4f}" for step, value in zip(STEPS, layers, strict=True))
        print(f"{name}: layers apart {apart}; next rings {' '.join(f'{r:.3f}' for r in rings)}")
    for kernels in ("compiled", "plain"):
        for precision in ("float32", "bfloat16"):
            try:
                model = checkpoint.model("cpu").execute_on("cpu", precision, kernels)
            except CaloforgeError as error:
                print(f"{kernels}, {precision}: {error}")
                continue
            times = ", ".join(f"{size}: {ms(model, truth, size, n):.2f}" for size, n in BLOCKS.items())
            print(f"{kernels}, {precision}, ms a shower at {times}", flush=True)


@torch.no_grad()
def nats(model: GeneratorModel, showers: Showers) -> dict[str, float]:
    model.eval()
    batch = Batch.with_energies(showers.energies[:JUDGED], showers.conditions[:JUDGED], model.detectors)
    blocks = torch.arange(min(JUDGED, len(showers))).split(50)
    return {
        part: float(sum(model.losses(batch[i], part, torch.Generator())["loss"] * len(i) for i in blocks))
        / len(batch)
        for part in model.parts()
    }


def lean(energies: NDArray[np.float32]) -> tuple[list[float], list[float]]:
    """Means of products of the leans of layers `STEPS` apart, and of neighbouring rings of a layer."""
    turn = (np.arange(energies.shape[2]) + 0.5) * 2 * np.pi / energies.shape[2]
    directions = np.stack([np.cos(turn), np.sin(turn)])
    rings = np.einsum("nzpr,kp->knzr", energies, directions)
    of_ring, of_layer = energies.sum(axis=2), energies.sum(axis=(2, 3))
    layer, n_z = rings.sum(axis=3) / np.maximum(of_layer, 1e-9), energies.shape[1]
    ring, n_r = rings / np.maximum(of_ring, 1e-9), energies.shape[3]
    layers = [
        _mean(layer[:, :, d:], layer[:, :, : n_z - d], of_layer[:, d:], of_layer[:, : n_z - d]) for d in STEPS
    ]
    return layers, [
        _mean(ring[..., r], ring[..., r + 1], of_ring[..., r], of_ring[..., r + 1]) for r in range(n_r - 1)
    ]


def _mean(
    a: NDArray[np.float32], b: NDArray[np.float32], of_a: NDArray[np.float32], of_b: NDArray[np.float32]
) -> float:
    return float((a * b).sum(axis=0)[(of_a > LEAST_MEV) & (of_b > LEAST_MEV)].mean())


@torch.no_grad()
def ms(model: GeneratorModel, showers: Showers, size: int, n: int) -> float:
    generator, spent = torch.Generator().manual_seed(0), 0.0
    for i in range(n + 1):  # the first packs weights
        conditions = ConditionTensors.of(showers.conditions[i * size : (i + 1) * size], model.detectors)
        noise = model.noise(size, generator)
        started = time.process_time()
        model.decode(noise, conditions)
        spent += (time.process_time() - started) * (i > 0)
    return 1000 * spent / (n * size)


if __name__ == "__main__":
    main()
