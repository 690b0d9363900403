"""What validators of a simulation ask for beyond the CaloChallenge's metrics."""

from caloforge.evaluation.physics.cluster import ClusterObservables, depth_of_maximum
from caloforge.evaluation.physics.correlations import (
    ChosenCells,
    cell_correlation,
    choose_cells,
    layer_correlation,
)
from caloforge.evaluation.physics.neighbourhoods import NeighbourhoodObservables
from caloforge.evaluation.physics.plans import describe, observable_plans, sparsity_profile
from caloforge.evaluation.physics.response import conservation, response_curves
from caloforge.evaluation.physics.shapes import longitudinal_observables

__all__ = [
    "ChosenCells",
    "ClusterObservables",
    "NeighbourhoodObservables",
    "cell_correlation",
    "choose_cells",
    "conservation",
    "depth_of_maximum",
    "describe",
    "layer_correlation",
    "longitudinal_observables",
    "observable_plans",
    "response_curves",
    "sparsity_profile",
]
