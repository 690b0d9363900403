"""Electrons of 1-10 GeV in par04-siw on a ragged mesh like that of CaloChallenge 1, simulated with Geant4.

The mesh has the bins of data set 1 for photons, 368 cells in 5 layers (arXiv:2410.21611), with radii shrunk
to the size of par04-siw and depths chosen so that the second and third layer hold most of the energy.

    python benchmarks/caloflow_data.py train.h5 3000 1
    python benchmarks/caloflow_data.py test.h5 600 2
"""

from __future__ import annotations

import argparse

from caloforge.detector import RaggedCylinderMesh, RaggedLayer, calochallenge_mesh
from caloforge.detector.detector import Detector
from caloforge.geant4 import simulate

DEPTHS_MM = [(0.0, 8.5), (8.5, 34.0), (34.0, 102.0), (102.0, 119.0), (119.0, 153.0)]
RADIUS_MM = 41.85


def ragged_mesh() -> RaggedCylinderMesh:
    """The cells of CaloChallenge 1 (photons), each layer scaled to the radius of par04-siw."""
    published = calochallenge_mesh("1-photons")
    assert isinstance(published, RaggedCylinderMesh)
    layers = []
    for layer, depth in zip(published.layers, DEPTHS_MM, strict=True):
        scale = RADIUS_MM / layer.r_edges[-1]
        edges = tuple(r * scale for r in layer.r_edges)
        layers.append(RaggedLayer(layer.number, layer.n_phi, edges, depth))
    return RaggedCylinderMesh(tuple(layers))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("out")
    parser.add_argument("n", type=int)
    parser.add_argument("seed", type=int)
    parser.add_argument("--workers", type=int, default=None)
    args = parser.parse_args()
    detector = Detector.load("par04-siw")
    showers = simulate(
        detector,
        out=args.out,
        n=args.n,
        energy="1-10GeV",
        seed=args.seed,
        mesh=ragged_mesh(),
        workers=args.workers,
    )
    print(showers, f"{showers.energies.mean(axis=0).reshape(-1).sum():.0f} MeV on average")


if __name__ == "__main__":
    main()
