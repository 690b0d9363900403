"""The layout of a result's JSON as a JSON Schema (draft 2020-12), made from the dataclasses themselves."""

from __future__ import annotations

import dataclasses
import inspect
import re
import types
import typing
from typing import Any

import numpy as np

__all__ = ["json_schema"]

_PLAIN: dict[Any, dict[str, Any]] = {
    str: {"type": "string"},
    int: {"type": "integer"},
    bool: {"type": "boolean"},
    float: {"type": ["number", "null"]},
}


def json_schema(kind: type, *, title: str, extra: dict[str, Any] | None = None) -> dict[str, Any]:
    """JSON Schema of what `to_plain` makes of a dataclass.

    Numbers that are not finite are null there, so every number may be; descriptions come from docstrings.

    Args:
        kind: the dataclass.
        title: of the schema.
        extra: further keys of the outermost object, as schemas.
    """
    definitions: dict[str, Any] = {}
    top = _object(kind, definitions)
    top["properties"] = (extra or {}) | top["properties"]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": title,
        **top,
        "$defs": definitions,
    }


def _object(kind: type, definitions: dict[str, Any]) -> dict[str, Any]:
    hints, told = typing.get_type_hints(kind), _attributes(kind)
    properties = {}
    for field in dataclasses.fields(kind):
        schema = _of(hints[field.name], definitions)
        if field.name in told:
            schema = {"description": told[field.name]} | schema
        properties[field.name] = schema
    summary = (inspect.getdoc(kind) or "").split("\n\n")[0].replace("\n", " ")
    return {
        "description": summary,
        "type": "object",
        "properties": properties,
        "required": [field.name for field in dataclasses.fields(kind)],
    }


def _of(hint: Any, definitions: dict[str, Any]) -> dict[str, Any]:
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if hint in _PLAIN:
        return dict(_PLAIN[hint])
    if origin in (typing.Union, types.UnionType):
        chosen = [_of(h, definitions) for h in inner if h is not type(None)]
        return {"anyOf": [*chosen, {"type": "null"}]}
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        if hint.__name__ not in definitions:
            definitions[hint.__name__] = {}  # so that a dataclass within itself ends
            definitions[hint.__name__] = _object(hint, definitions)
        return {"$ref": f"#/$defs/{hint.__name__}"}
    if origin is np.ndarray:  # a list of numbers, or of such lists
        return {"type": "array", "items": {"type": ["number", "null", "array"]}}
    if origin is list or (origin is tuple and inner[-1] is Ellipsis):
        return {"type": "array", "items": _of(inner[0], definitions)}
    if origin is tuple:
        return {
            "type": "array",
            "prefixItems": [_of(h, definitions) for h in inner],
            "minItems": len(inner),
            "maxItems": len(inner),
        }
    if origin is dict:
        return {"type": "object", "additionalProperties": _of(inner[1], definitions)}
    return {}  # anything


def _attributes(kind: type) -> dict[str, str]:
    """What the docstring says of each attribute; ``a, b: text`` holds for both."""
    _, _, body = (inspect.getdoc(kind) or "").partition("Attributes:\n")
    told: dict[str, str] = {}
    for entry in re.split(r"\n(?=    \S)", "\n" + body):
        names, colon, text = entry.strip().partition(": ")
        if colon:
            plain = " ".join(text.split("\n\n")[0].split())
            told |= {name.strip("` "): plain for name in names.split(",")}
    return told
