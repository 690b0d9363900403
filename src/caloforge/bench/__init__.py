"""How fast a generator is: the CaloChallenge's timing protocol, beside Geant4 at the same energies."""

from caloforge.bench.results import BenchResult, BenchRow, Geant4Time, read_bench, write_bench
from caloforge.bench.run import bench

__all__ = ["BenchResult", "BenchRow", "Geant4Time", "bench", "read_bench", "write_bench"]
