"""Were files of showers made alike, so that one file may hold them all?"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caloforge.data.conditions import Conditions
from caloforge.data.showers import Showers
from caloforge.errors import DataError

__all__ = ["require_alike"]

Made = Mapping[str, Any]
KINDS = {
    "made_by": "generators",
    "checkpoint": "checkpoints",
    "changed_settings": "settings of the model",
    "precision": "precisions",
    "physics": "physics lists",
}
"""What makes showers of another kind."""
ROUNDING = {
    "device": "devices",
    "kernels": "kernels",
    "code": "versions",
    "geant4_pybind": "versions of Geant4",
    "engine": "versions of the simulation",
    "data": "data of Geant4",
    "seed": "seeds",
}
"""What makes other showers of the same kind."""


def require_alike(samples: Sequence[tuple[str, Showers]]) -> list[str]:
    """What is to be said of how the samples, with their names, were made; nothing where that is alike.

    Files that do not say how they were made are taken for alike.

    Raises:
        DataError: they were made by different models or in different ways, or a shower is in two of them.
    """
    made = [(name, how) for name, showers in samples for how in _made(showers.provenance)]
    for key, what in KINDS.items():
        found = _values(made, key)
        if len(found) > 1:
            listed = "; ".join(
                f"{', '.join(dict.fromkeys(names))}: {value}" for value, names in found.items()
            )
            raise DataError(
                f"the files hold showers of different {what} ({listed}), which nobody could tell apart "
                "in one file; keep them in files of their own"
            )
    shared = [_shared(*pair) for pair in itertools.combinations(samples, 2)]
    values = {what: _values(made, key) for key, what in ROUNDING.items()}
    differ = [f"{what} ({', '.join(found)})" for what, found in values.items() if len(found) > 1]
    said = [f"the files were made with different {', '.join(differ)}"] if differ else []
    if any(shared):
        said.append(
            f"{sum(shared)} showers have the noise of others of the same seed and number at other "
            "conditions; another --seed or --first makes them independent"
        )
    return said


def _values(made: Sequence[tuple[str, Made]], key: str) -> dict[str, list[str]]:
    """The values that are recorded, as text, with the files that have them."""
    found: dict[str, list[str]] = {}
    for name, how in made:
        if key in how:
            found.setdefault(str(how[key]), []).append(name)
    return found


def _made(provenance: Made) -> Iterator[Made]:
    """What made the showers of a file, which may be converted, split or joined of others."""
    parts = provenance.get("parts") if provenance.get("action") == "concatenate" else None
    if isinstance(parts, list):
        for part in parts:
            yield from _made(part)
    elif isinstance(provenance.get("source"), Mapping):
        yield from _made(provenance["source"])
    elif isinstance(provenance.get("request"), Mapping):
        yield {"made_by": "caloforge generate"} | provenance["request"]
    elif provenance.get("action") == "simulate" and isinstance(provenance.get("settings"), Mapping):
        yield {"made_by": "Geant4"} | provenance["settings"]


def _shared(first: tuple[str, Showers], second: tuple[str, Showers]) -> int:
    """How many showers of two files have the same seed and number.

    DataError where they have the same conditions, too, and so are the same showers.
    """
    (one, start, seed), (other, start_2, seed_2) = _numbers(first[1]), _numbers(second[1])
    low, high = max(start, start_2), min(start + len(one), start_2 + len(other))
    if seed is None or seed != seed_2 or low >= high:
        return 0
    same = np.flatnonzero(_equal(one[low - start : high - start], other[low - start_2 : high - start_2]))
    if len(same):
        raise DataError(
            f"{first[0]} and {second[0]} hold the same showers: {len(same)} of the same seed "
            f"({seed}), number and conditions, the first of number {low + same[0]}; make one of the files "
            "with another seed or first number (--seed, --first)"
        )
    return high - low


def _numbers(showers: Showers) -> tuple[Conditions, int, int | None]:
    """Conditions, number of the first shower, and the seed, None where the file is not one production."""
    made = [] if "source" in showers.provenance else list(_made(showers.provenance))
    if len(made) != 1 or made[0].get("n") != len(showers):
        return showers.conditions, 0, None
    return showers.conditions, int(made[0].get("first", 0)), made[0].get("seed")


def _equal(one: Conditions, other: Conditions) -> NDArray[np.bool_]:
    equal: NDArray[np.bool_] = one.energy == other.energy
    for name in ("theta", "phi", "particle", "detector"):
        equal = equal & (getattr(one, name) == getattr(other, name))
    return equal
