"""Small samples on every kind of mesh, and evaluations of them."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from caloforge.data import Conditions, Showers
from caloforge.detector import (
    BoxMesh,
    CylinderMesh,
    Mesh,
    RaggedBoxLayer,
    RaggedBoxMesh,
    RaggedCylinderMesh,
    RaggedLayer,
)
from caloforge.evaluation.results import ClassifierResult, Evaluation, Timing
from caloforge.report import evaluate

MESHES: dict[str, Mesh] = {
    "cylinder": CylinderMesh.regular(n_z=4, dz=5.0, n_phi=6, n_r=3, dr=6.0),
    "box": BoxMesh.regular((3, 4, 5), (6.0, 5.0, 4.0)),
    "image": BoxMesh.regular((1, 6, 6), (1.0, 5.0, 5.0)),
    "ragged-cylinder": RaggedCylinderMesh(
        (
            RaggedLayer(0, 1, (0, 5, 10, 30), (0.0, 4.0)),
            RaggedLayer(1, 10, (0, 2, 8), (4.0, 9.0)),
            RaggedLayer(12, 1, (0, 100, 2000), (12.0, 20.0)),
        )
    ),
    "unknown-depth": RaggedCylinderMesh(
        (RaggedLayer(0, 1, (0, 5, 10, 30)), RaggedLayer(2, 4, (0, 2, 8, 20)), RaggedLayer(12, 1, (0, 9, 50)))
    ),
    "ragged-box": RaggedBoxMesh(
        (
            RaggedBoxLayer(0, (-10, 0, 10), (-10, -5, 0, 5, 10), (0.0, 5.0)),
            RaggedBoxLayer(1, (-10, -4, 4, 10), (-10, 0, 10), (5.0, 12.0)),
        )
    ),
}
"""A mesh of every kind that a report has to draw."""


def make_showers(mesh: Mesh, n: int, seed: int, scale: float = 1.0) -> Showers:
    """Showers with an exponential share of the energy in each cell, some cells empty."""
    rng = np.random.default_rng(seed)
    incident = np.exp(rng.uniform(np.log(1e3), np.log(5e4), n))
    shape = rng.gamma(0.7, size=(n, mesh.n_voxels)) * np.exp(-0.03 * np.arange(mesh.n_voxels))
    shape[rng.random(shape.shape) < 0.3] = 0
    energies = scale * incident[:, None] * shape / shape.sum(axis=1, keepdims=True)
    conditions = Conditions(incident, particle="e-", detector="a<b>&c")
    provenance = {"action": "test", "note": "<script>alert(1)</script>", "settings": {"seed": seed}}
    return Showers(energies.astype(np.float32), conditions, mesh, provenance)


def judged(reference: Showers, generated: Showers) -> Evaluation:
    """A real evaluation of some features, with classifier results and a timing put into it."""
    evaluation = evaluate(reference, generated, classifiers="none", distances=False, progress=False)
    groups = ("e_ratio", "cell_energy", "e_layer", "width_r")
    return evaluation.replace(
        histograms=[h for h in evaluation.histograms if h.group in groups],
        classifiers={"low": classifier("low", 0.71), "high": classifier("high", 0.62)},
        timing=Timing(
            geant4_ms=900.0,
            geant4_ms_per_gev=70.0,
            generator_ms=0.5,
            speed_up=1800.0,
            mean_energy_mev=12e3,
            performance={"threads": 2, "peak_memory_mib": 512.5},
        ),
        warnings=["A <b>warning</b> & more."],
        distances={},
        responses=[],
        correlations={},
        slices=[],
        conservation=None,
        memorisation=None,
        localisation=None,
        verdict=None,
    )


def classifier(name: str, auc: float) -> ClassifierResult:
    return ClassifierResult(
        name=name,
        auc=auc,
        auc_std=0.01,
        jsd=0.2,
        jsd_std=0.01,
        auc_noise=0.02,
        auc_floor=0.502,
        auc_floor_std=0.01,
        aucs=(auc, auc),
        jsds=(0.2, 0.2),
        best_epochs=(3, 4),
        showers=(600, 200, 200),
        seconds=1.5,
        device="cpu",
        settings={"preset": "quick"},
    )


@dataclasses.dataclass(frozen=True)
class Sample:
    reference: Showers
    generated: Showers
    evaluation: Evaluation
    page: Path
