"""What all results are: frozen pydantic models of numbers and arrays, and files of JSON made of them."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    PlainSerializer,
    PlainValidator,
    ValidationError,
    WithJsonSchema,
)
from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import to_jsonable_python

from caloforge.errors import DataError
from caloforge.runtime.files import read_json, write_text
from caloforge.settings import explain

__all__ = ["Details", "Document", "Floats", "Integers", "Number", "Result", "jsonable", "of_both"]


def jsonable(value: Any) -> Any:
    """Models, arrays, tuples and the like as JSON-able values; what JSON does not know as text."""
    return to_jsonable_python(value, fallback=lambda v: v.tolist() if hasattr(v, "tolist") else str(v))


Number = Annotated[
    float,
    BeforeValidator(lambda value: math.nan if value is None else value),
    WithJsonSchema({"type": ["number", "null"]}),
]
"""A number; one that is not finite is null in JSON, and null is read as NaN."""

_ARRAY = (
    PlainSerializer(lambda array: array.tolist()),
    WithJsonSchema({"type": "array", "items": {"type": ["number", "null", "array"]}}),
)
Floats = Annotated[
    NDArray[np.float64], PlainValidator(lambda values: np.asarray(values, dtype=np.float64)), *_ARRAY
]
"""An array of `Number`, in JSON a list or a list of lists."""
Integers = Annotated[
    NDArray[np.int64], PlainValidator(lambda values: np.asarray(values, dtype=np.int64)), *_ARRAY
]
Details = Annotated[dict[str, Any], BeforeValidator(jsonable)]
"""Whatever JSON can hold, by name."""


def of_both(reference: object, generated: object, *names: str) -> dict[str, Any]:
    """``reference_<name>`` and ``generated_<name>`` for attributes of two objects."""
    pair = {"reference": reference, "generated": generated}
    return {f"{role}_{name}": getattr(sample, name) for name in names for role, sample in pair.items()}


class Result(BaseModel):
    """Numbers that are not changed afterwards, in JSON and back."""

    model_config = ConfigDict(
        frozen=True,
        arbitrary_types_allowed=True,
        use_attribute_docstrings=True,
        ser_json_inf_nan="null",
        json_schema_serialization_defaults_required=True,
    )

    def replace(self, **changes: Any) -> Self:
        """A copy with other values."""
        return type(self)(**{name: getattr(self, name) for name in type(self).model_fields} | changes)

    def to_dict(self) -> dict[str, Any]:
        """As JSON-able values; numbers that are not finite are None."""
        plain: dict[str, Any] = json.loads(self.model_dump_json())
        return plain

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Self:
        """The result that `to_dict` made these values of; None among numbers becomes NaN.

        Raises:
            ValidationError: the values do not fit.
        """
        return cls.model_validate(plain)


class Document(Result):
    """A result that fills a file, whose layout has a number under the key ``schema``."""

    layout: ClassVar[int]
    """Raised where a key is removed or changes its meaning."""
    noun: ClassVar[str]
    remedy: ClassVar[str] = ""

    def to_dict(self) -> dict[str, Any]:
        """The layout of the file."""
        return {"schema": self.layout, **super().to_dict()}

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Self:
        """The result that `to_dict` made these values of; DataError where the layout is another."""
        schema = plain.get("schema") if isinstance(plain, Mapping) else None
        if schema != cls.layout:
            raise DataError(
                f"{cls.noun} of schema {schema!r}; this version reads {cls.layout}. {cls.remedy}".rstrip()
            )
        try:
            return cls.model_validate(plain)
        except ValidationError as error:
            raise DataError(explain(error, f"malformed {cls.noun}")) from error

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Self:
        """The result in a file; DataError where it is missing, damaged or of another layout."""
        return cls.from_dict(read_json(path))

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write it as JSON, whole or not at all; DataError where that fails."""
        write_text(path, _pretty(self.to_dict()) + "\n")

    @classmethod
    def json_schema(cls) -> dict[str, Any]:
        """The layout of the file as a JSON Schema."""
        layout = cls.model_json_schema(mode="serialization", schema_generator=_Untitled)
        schema: dict[str, Any] = _plain(to_jsonable_python(layout, inf_nan_mode="null"))
        version = {"description": "Version of this layout.", "const": cls.layout}
        schema["properties"] = {"schema": version} | schema["properties"]
        schema["required"] = ["schema", *schema["required"]]
        title = {"title": f"caloforge {cls.noun}.json, schema {cls.layout}"}
        return {"$schema": "https://json-schema.org/draft/2020-12/schema"} | schema | title


def _plain(schema: Any) -> Any:
    """Without what versions of pydantic say differently: defaults, and that other keys are allowed."""
    if isinstance(schema, list):
        return [_plain(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    names = schema.get("properties")
    kept = {
        key: _plain(value)
        for key, value in schema.items()
        if key != "default" and not (key == "additionalProperties" and value is True)
    }
    if isinstance(names, dict):  # keys of the file, whatever they are called
        kept["properties"] = {name: _plain(value) for name, value in names.items()}
    return kept


class _Untitled(GenerateJsonSchema):
    """Without titles, which would repeat the names of the keys."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


def _pretty(value: Any, indent: str = "") -> str:
    """JSON with one key a line and every list of plain values on one line."""
    deeper = indent + " "
    if isinstance(value, dict) and value:
        items = [f"{deeper}{json.dumps(key)}: {_pretty(item, deeper)}" for key, item in value.items()]
        return "{\n" + ",\n".join(items) + f"\n{indent}}}"
    if isinstance(value, list) and any(isinstance(item, dict | list) for item in value):
        return "[\n" + ",\n".join(deeper + _pretty(item, deeper) for item in value) + f"\n{indent}]"
    return json.dumps(value, ensure_ascii=False, allow_nan=False)
