"""Settings that users write: unknown keys are errors, single values change by dotted key."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

from caloforge.errors import RecipeError
from caloforge.registry import suggestion

__all__ = ["KindSettings", "Settings", "explain", "with_overrides"]


class Settings(BaseModel):
    """A table of settings, validated where it is made and not changed afterwards; its numbers are finite."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
    largest_number: ClassVar[int] = 1_000_000
    """Largest whole number: what is counted in settings becomes loops and memory."""

    @model_validator(mode="before")
    @classmethod
    def _known_keys(cls, given: Any) -> Any:
        if not isinstance(given, Mapping):
            return given
        known = sorted(cls.model_fields)
        problems = [
            InitErrorDetails(
                type=PydanticCustomError(
                    "unknown_key",
                    "{near}; known are {known}",
                    {"near": suggestion(str(key), known), "known": ", ".join(known) or "none"},
                ),
                loc=(str(key),),
                input=given[key],
            )
            for key in given
            if key not in cls.model_fields
        ]
        if problems:
            raise ValidationError.from_exception_data(cls.__name__, problems)
        return given

    @model_validator(mode="after")
    def _no_huge_numbers(self) -> Self:
        for key, value in self.__dict__.items():
            for number in value if isinstance(value, tuple) else (value,):
                if isinstance(number, int) and abs(number) > self.largest_number:
                    raise ValueError(f"{key} may be at most {self.largest_number:,}, got {number:,}")
        return self


class KindSettings(Settings):
    """Settings of an exchangeable part, a table whose ``kind`` is the part's name in its `Registry`."""

    kind: str


def explain(error: ValidationError, where: str, prefix: str = "") -> str:
    """One line per problem: where, which key, what is wrong, what was given."""
    lines = []
    for problem in error.errors(include_url=False):
        key = ".".join([*([prefix] if prefix else []), *map(str, problem["loc"])])
        said = problem["msg"].removeprefix("Value error, ")
        if problem["type"] == "unknown_key":
            lines.append(f"{where}: unknown key {key!r}{said}")
            continue
        given = json.dumps(problem["input"], default=str)
        shown = f", got {given}" if len(given) < 100 and problem["type"] != "missing" else ""
        lines.append(f"{where}: {key}: {said}{shown}")
    return "\n".join(lines)


def with_overrides(table: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of nested tables with other values at dotted keys, ``{"training.epochs": 5}``; None removes one.

    Raises:
        RecipeError: a key leads through something that is a value.
    """
    changed = copy.deepcopy(dict(table))
    for key, value in overrides.items():
        *tables, last = key.split(".")
        inner = changed
        for name in tables:
            inner = inner.setdefault(name, {})
            if not isinstance(inner, dict):
                raise RecipeError(f"override {key!r}: {name!r} is a value, not a table")
        inner.pop(last, None)
        if value is not None:
            inner[last] = value
            twin = {"training.epochs": "steps", "training.steps": "epochs"}.get(key)
            if twin:
                inner.pop(twin, None)
    return changed
