"""Dataclasses as plain JSON-able values and back, guided by their type hints."""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

import numpy as np

__all__ = ["from_plain", "to_plain"]

T = TypeVar("T")


def to_plain(value: Any) -> Any:
    """Dataclasses, arrays and tuples as dicts, numbers and lists; numbers that are not finite as None."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, np.ndarray | np.generic):
        return to_plain(value.tolist())
    if isinstance(value, Mapping):
        return {str(key): to_plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if isinstance(value, str | int | bool | None) else str(value)


def from_plain(kind: type[T], plain: Any) -> T:
    """The dataclass that `to_plain` made these values of; None among the numbers of an array becomes NaN.

    Hints may be dataclasses, arrays, ``list``, ``tuple`` and ``dict`` of such, unions with None, and plain
    values.

    Raises:
        KeyError, TypeError, ValueError: the values do not fit.
    """
    hints = typing.get_type_hints(kind)
    values = {}
    for field in dataclasses.fields(kind):  # type: ignore[arg-type]
        if field.name in plain:
            values[field.name] = _value(hints[field.name], plain[field.name])
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise KeyError(f"{kind.__name__} lacks {field.name!r}")
    return kind(**values)


def _value(hint: Any, plain: Any) -> Any:
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        chosen = [h for h in inner if h is not type(None)]
        return None if plain is None else _value(chosen[0], plain)
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return from_plain(hint, plain)
    if origin is np.ndarray:
        return np.array(plain, dtype=np.float64)  # None becomes NaN
    if origin is list:
        return [_value(inner[0], item) for item in plain]
    if origin is dict:
        return {key: _value(inner[1], item) for key, item in plain.items()}
    if origin is tuple:
        kinds = [inner[0]] * len(plain) if inner[-1] is Ellipsis else inner
        return tuple(_value(h, item) for h, item in zip(kinds, plain, strict=True))
    if hint is float:
        return math.nan if plain is None else float(plain)
    return plain
