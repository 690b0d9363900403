"""How numbers get to the page's own script: strict JSON with arrays as base64 of float32."""

from __future__ import annotations

import base64
import json
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

__all__ = ["colour_table", "pack", "script_json"]


def pack(values: ArrayLike) -> str:
    """Little-endian float32 as base64."""
    return base64.b64encode(np.asarray(values, dtype="<f4").tobytes()).decode("ascii")


def script_json(value: Any) -> str:
    """JSON that may stand inside a <script> element: it can neither close it nor open a comment."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def colour_table(name: str, start: float = 0.0, stop: float = 1.0, n: int = 64) -> list[str]:
    """Colours of one of matplotlib's maps as ``#rrggbb``."""
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    return [to_hex(colormaps[name](v)) for v in np.linspace(start, stop, n)]
