"""The numbers that the page's own script draws from: compact JSON with arrays as base64 of float32."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from caloforge.detector import Mesh
from caloforge.report.display import Event, EventPair
from caloforge.report.geometry import cell_bounds, layer_cells, split_layers, visible_radius
from caloforge.report.images import (
    DIFFERENCE_LIMIT,
    colour_range,
    relative_difference,
    significant_difference,
)
from caloforge.report.means import MeanShower

__all__ = ["events_payload", "layers_payload", "to_script_json"]


def pack(values: ArrayLike) -> str:
    """Little-endian float32 as base64."""
    return base64.b64encode(np.asarray(values, dtype="<f4").tobytes()).decode("ascii")


def to_script_json(value: Any) -> str:
    """JSON that may stand inside a <script> element: it can neither close it nor open a comment."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def colour_table(name: str, start: float = 0.0, stop: float = 1.0, n: int = 64) -> list[str]:
    """Colours of one of matplotlib's maps as ``#rrggbb``."""
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    return [to_hex(colormaps[name](v)) for v in np.linspace(start, stop, n)]


def layers_payload(mesh: Mesh, reference: MeanShower, generated: MeanShower) -> dict[str, Any]:
    """Mean showers layer by layer for the images with the slider.

    ``differences`` is what the picture shows, ``raw`` what the pointer reads: NaN where undefined.
    """
    layers = layer_cells(mesh)
    offsets = mesh.layer_offsets
    parts = split_layers(mesh, reference.mean)
    shown = significant_difference(reference, generated)
    shapes: list[dict[str, Any]] = []
    where = []
    for layer in layers:
        shape = {"a": np.round(layer.a, 6).tolist(), "b": np.round(layer.b, 4).tolist()}
        if shape not in shapes:
            shapes.append(shape)
        where.append(shapes.index(shape))
    low, high = colour_range(reference.mean, generated.mean)
    finite = np.nan_to_num(shown, nan=0.0, posinf=1e9, neginf=-1e9)
    raw = np.nan_to_num(relative_difference(reference.mean, generated.mean), nan=0.0, posinf=1e9)
    return {
        "polar": layers[0].polar,
        "numbers": [layer.number for layer in layers],
        "depths": [None if layer.z is None else [round(v, 3) for v in layer.z] for layer in layers],
        "shapes": shapes,
        "shape": where,
        "offsets": offsets.tolist(),
        "half": visible_radius(layers, parts),
        "range": [low, high],
        "limit": DIFFERENCE_LIMIT,
        "reference": pack(reference.mean),
        "generated": pack(generated.mean),
        "difference": pack(np.clip(finite, -9, 9)),
        "raw": pack(np.clip(raw, -9, 9)),
        "start": int(np.argmax([part.sum() for part in parts])),
        "colours": colour_table("viridis"),
        "differences": colour_table("RdBu_r", n=65),
    }


def events_payload(mesh: Mesh, pairs: Sequence[EventPair]) -> dict[str, Any]:
    """Cells of the showers for the display in three dimensions."""
    bounds, known = cell_bounds(mesh)
    energies = [e.energies for pair in pairs for e in (pair.reference, pair.generated) if len(e.energies)]
    joint = np.concatenate(energies) if energies else np.array([1.0])
    return {
        "polar": layer_cells(mesh)[0].polar,
        "single": mesh.n_layers == 1,
        "depthKnown": known,
        "numbers": list(mesh.layer_numbers),
        "range": [float(joint.min()), float(joint.max())],
        "colours": colour_table("plasma", 0.12, 1.0, 24),
        "pairs": [
            {"title": pair.title, "events": [_event(pair.reference, bounds), _event(pair.generated, bounds)]}
            for pair in pairs
        ],
    }


def _event(event: Event, bounds: np.ndarray[Any, np.dtype[np.float64]]) -> dict[str, Any]:
    return {
        "number": event.number,
        "incident": event.incident,
        "total": event.total,
        "hits": event.hits,
        "dropped": event.dropped,
        "droppedShare": event.dropped_share,
        "bounds": pack(bounds[event.cells]),
        "energies": pack(event.energies),
    }
