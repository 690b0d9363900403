"""Showers from Geant4: reduced electromagnetic data, geometry from a detector file, worker processes."""

from caloforge.geant4.beam import make_beam
from caloforge.geant4.environment import Geant4Data, find_data
from caloforge.geant4.pixel.simulate import simulate_events
from caloforge.geant4.simulate import simulate

__all__ = ["Geant4Data", "find_data", "make_beam", "simulate", "simulate_events"]
