"""JSON as every program can read it, and reading of JSON and TOML that may be anything."""

from __future__ import annotations

import json
import math
import tomllib
from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["json_text", "parse_json", "parse_toml", "require_shallow"]

DEEPEST = 200
"""Tables and lists in one another: more than honest files have, far less than Python can follow."""


def json_text(value: Any, *, indent: int | None = None, ascii_only: bool = True) -> str:
    """JSON of a value; numbers that are not finite are null, and what JSON does not know becomes text."""
    plain = _finite(value)
    return json.dumps(plain, indent=indent, ensure_ascii=ascii_only, allow_nan=False, default=str)


def parse_json(text: str | bytes) -> Any:
    """What a JSON text says; ValueError where it is none or nested too deeply."""
    return _parsed(json.loads, text)


def parse_toml(text: str) -> dict[str, Any]:
    """What a TOML text says; ValueError where it is none or nested too deeply."""
    return dict(_parsed(tomllib.loads, text))


def _parsed(parse: Callable[[Any], Any], text: str | bytes) -> Any:
    try:
        value = parse(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    require_shallow(value)
    return value


def require_shallow(value: Any) -> None:
    """ValueError where tables and lists are nested more deeply than honest ones."""
    level = [value]
    for _ in range(DEEPEST):
        level = [item for outer in level for item in _items(outer) if isinstance(item, Mapping | list)]
        if not level:
            return
    raise ValueError(f"it is nested more than {DEEPEST} deep")


def _items(value: Any) -> Any:
    if isinstance(value, Mapping):
        return value.values()
    return value if isinstance(value, list) else ()


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if hasattr(value, "tolist"):  # of numpy
        return _finite(value.tolist())
    return value
