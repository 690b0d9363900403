"""caloforge: fast simulation of calorimeter showers with generative models.

The verbs of the package mirror the commands: `simulate`, `train`, `adapt`, `generate`, `evaluate`, `compare`;
the nouns are `Detector`, the meshes, `Conditions` and `Showers`, of pixel detectors `PixelDetector` and
`PixelEvents`. Names are imported on first use, so that
``import caloforge`` loads neither torch nor matplotlib nor Geant4.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from caloforge.lazy import lazily

if TYPE_CHECKING:
    from caloforge.checkpoint import Checkpoint
    from caloforge.data import Conditions, PixelEvents, Showers, open_events, open_showers, overlay
    from caloforge.demo import write_demo
    from caloforge.detector import (
        BoxMesh,
        CylinderMesh,
        Detector,
        PixelDetector,
        RaggedCylinderMesh,
        calochallenge_mesh,
    )
    from caloforge.evaluation import read_comparison
    from caloforge.exports import export
    from caloforge.fast import simulate_fast
    from caloforge.geant4 import simulate, simulate_events
    from caloforge.generation import generate, generate_events
    from caloforge.registry import allow_code
    from caloforge.report import compare, evaluate, evaluate_events, write_event_report, write_report
    from caloforge.report.comparison import write_comparison
    from caloforge.training import Recipe, adapt, train

__getattr__, __dir__ = lazily(
    __name__,
    {
        "BoxMesh": "detector",
        "Checkpoint": "checkpoint",
        "Conditions": "data",
        "CylinderMesh": "detector",
        "Detector": "detector",
        "PixelDetector": "detector",
        "PixelEvents": "data",
        "RaggedCylinderMesh": "detector",
        "Recipe": "training",
        "Showers": "data",
        "adapt": "training",
        "allow_code": "registry",
        "calochallenge_mesh": "detector",
        "compare": "report",
        "evaluate": "report",
        "evaluate_events": "report",
        "export": "exports",
        "generate": "generation",
        "generate_events": "generation",
        "open_events": "data",
        "open_showers": "data",
        "overlay": "data",
        "read_comparison": "evaluation",
        "simulate": "geant4",
        "simulate_events": "geant4",
        "simulate_fast": "fast",
        "train": "training",
        "write_comparison": "report.comparison",
        "write_demo": "demo",
        "write_event_report": "report",
        "write_report": "report",
    },
)

__all__ = [
    "BoxMesh",
    "Checkpoint",
    "Conditions",
    "CylinderMesh",
    "Detector",
    "PixelDetector",
    "PixelEvents",
    "RaggedCylinderMesh",
    "Recipe",
    "Showers",
    "adapt",
    "allow_code",
    "calochallenge_mesh",
    "compare",
    "evaluate",
    "evaluate_events",
    "export",
    "generate",
    "generate_events",
    "open_events",
    "open_showers",
    "overlay",
    "read_comparison",
    "simulate",
    "simulate_events",
    "simulate_fast",
    "train",
    "write_comparison",
    "write_demo",
    "write_event_report",
    "write_report",
]
