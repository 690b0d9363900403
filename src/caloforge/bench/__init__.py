"""How fast a generator is: the CaloChallenge's timing protocol, beside Geant4 at the same energies."""

from caloforge.bench.results import BenchResult, BenchRow, Geant4Time
from caloforge.bench.run import bench

__all__ = ["BenchResult", "BenchRow", "Geant4Time", "bench"]
