"""Names and numbers as people write them: for the verdict, the terminal and the page."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable

from caloforge.evaluation.results import Histogram

__all__ = [
    "classifier_title",
    "drowned",
    "feature_words",
    "group_title",
    "lowered",
    "number",
    "percent",
    "raised",
    "scatter",
    "scatter_percent",
    "with_error",
]

_TITLES = {
    "e_ratio": "Total energy over incident energy",
    "e_ratio_at_energy": "Response at each incident energy",
    "cell_energy": "Cell energies",
    "e_layer": "Energy in each layer",
    "sparsity": "Sparsity",
    "shower_start": "Shower start",
    "shower_max": "Shower maximum",
    "shower_length": "Shower length",
    "containment_radius": "Containment radius",
    "asymmetry_longitudinal": "Longitudinal asymmetry",
    "asymmetry_transverse": "Transverse asymmetry",
    "cluster_width_longitudinal": "Longitudinal width of the cluster",
    "cluster_width_transverse": "Transverse width of the cluster",
    "centroid_shift": "Shift of the centroid",
    "square": "Energy in squares around the trajectory",
    "isolated": "Isolated lit cells",
    "isolated_share": "Share of isolated lit cells",
    "isolated_ring": "Isolated lit cells by ring",
    "isolated_layer": "Isolated lit cells by layer",
    "clusters": "Connected clusters of cells",
    "cluster_size": "Size of the clusters",
    "cluster_largest": "Share of the largest cluster",
    "holes": "Holes",
}
_PAIRS = re.compile(r"(pairs|correlation)_([a-z]+?)(_ring)?")
_PLACES = re.compile(r"(e_ring|lit_ring|cell_quantile)_(\d+)")
_KINDS = {"ec": "Centre of energy", "width": "Width"}
_AXES = {"eta": "η", "phi": "φ", "x": "x", "y": "y", "r": "r"}
_INPUTS = {"e_inc": "incident energy", "e_total": "total energy"}
_CLASSIFIERS = {
    "low": "cells",
    "low-normed": "cells, normed by layer",
    "high": "high-level features",
    "resnet": "cells (3D ResNet)",
    "c2st": "images (2D ResNet)",
    "strong": "cells, ranks and neighbours",
    "boosted": "physics features (boosted trees)",
}


def lowered(title: str) -> str:
    """A title within a sentence."""
    return title[:1].lower() + title[1:]


def raised(text: str) -> str:
    """Words as a title or the beginning of a sentence."""
    return text[:1].upper() + text[1:]


def group_title(group: str) -> str:
    """A readable title of a group of histograms; a group unknown here keeps its name."""
    kind, _, axis = group.partition("_")
    if group in _TITLES:
        return _TITLES[group]
    if kind in _KINDS and axis in _AXES:
        return f"{_KINDS[kind]} in {_AXES[axis]}"
    if (found := _PAIRS.fullmatch(group)) is not None:
        what, along, ring = found.groups()
        text = "Pairs of lit neighbours" if what == "pairs" else "Correlation of cells"
        return f"{text} in {_AXES.get(along, along)}{' by ring' if ring else ''}"
    return group.replace("_", " ").capitalize()


def classifier_title(name: str) -> str:
    """What a classifier looks at, in words."""
    return _CLASSIFIERS.get(name, name)


def feature_words(name: str, histograms: Iterable[Histogram] = ()) -> str:
    """A feature's axis label without its unit, where a histogram bears that name; else the name in words."""
    for histogram in histograms:
        if histogram.name == name:
            return histogram.label.partition(" [")[0]
    if name.startswith("all "):
        return f"{lowered(group_title(name.removeprefix('all ')))} (all)"
    if (found := _PLACES.fullmatch(name)) is not None:
        kind, place = found.groups()
        return {
            "e_ring": f"energy in ring {place}",
            "lit_ring": f"lit cells in ring {place}",
            "cell_quantile": f"cell energies, {place} % quantile",
        }[kind]
    return _INPUTS.get(name, name.replace("_", " "))


def number(value: float | None, digits: int = 3) -> str:
    """A number for people: no exponent between 0.001 and a million, thin spaces between thousands."""
    if value is None or not math.isfinite(value):
        return "not known"
    if isinstance(value, int):
        return f"{value:,}".replace(",", "\u202f").replace("-", "−")
    if value == 0:
        return "0"
    if not 1e-3 <= abs(value) < 1e6:
        mantissa, power = f"{value:.{digits - 1}e}".split("e")
        exponent = str(int(power)).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
        return f"{mantissa}·10{exponent}".replace("-", "−")
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    return f"{value:,.{decimals}f}".replace(",", "\u202f").replace("-", "−")


def drowned(value: float, error: float) -> bool:
    """True where the error is larger than the value, which is then no result."""
    return error > abs(value)


def with_error(value: float, error: float = math.nan) -> str:
    """``12.3 ± 3.1``: two digits of the error, where it is known; no number that is `drowned` in it."""
    if math.isfinite(value) and drowned(value, error):
        return f"not significant (± {number(error, 2)})"
    return scatter(value, error)


def scatter(value: float, error: float = math.nan) -> str:
    """``12.3 ± 3.1``: a mean and how it scatters, as of what chance gives; two digits of that."""
    if not math.isfinite(value):
        return "not known"
    if not math.isfinite(error) or error <= 0:
        return number(value)
    decimals = max(0, 1 - math.floor(math.log10(error)))
    if decimals > 5 or error >= 1e5:
        return f"{number(value)} ± {number(error, 2)}"
    return f"{value:.{decimals}f} ± {error:.{decimals}f}".replace("-", "−")


def percent(share: float, error: float = math.nan, *, signed: bool = True) -> str:
    """A share in percent, with its error where it is known, as in `with_error`: ``+1.23 ± 0.31 %``."""
    if drowned(share, error):
        return f"not significant (± {number(100 * error, 2)} %)"
    return scatter_percent(share, error, signed=signed)


def scatter_percent(share: float, error: float = math.nan, *, signed: bool = False) -> str:
    """A mean share in percent and how it scatters: ``0.12 ± 0.31 %``; two digits of that."""
    if not math.isfinite(share):
        return "not known"
    scale = error if math.isfinite(error) and error > 0 else abs(share)
    decimals = max(0, 1 - math.floor(math.log10(100 * scale))) if scale > 0 else 1
    decimals = min(decimals, 4)
    text = f"{100 * share:{'+' if signed else ''}.{decimals}f}".replace("-", "−")
    return f"{text} ± {100 * error:.{decimals}f} %" if math.isfinite(error) and error > 0 else f"{text} %"
