"""``metrics.json``: an evaluation on disk. docs/metrics.schema.json documents it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from caloforge.errors import DataError
from caloforge.evaluation.results import Evaluation
from caloforge.runtime.files import whole_file

__all__ = ["METRICS_FILE", "read_metrics", "write_metrics"]

METRICS_FILE = "metrics.json"


def write_metrics(evaluation: Evaluation, path: str | os.PathLike[str]) -> None:
    """Write an evaluation as JSON; the file appears under its name only when it is complete.

    Raises:
        DataError: the file cannot be written.
    """
    path = Path(path)
    try:
        with whole_file(path) as file:
            file.write((_pretty(evaluation.to_dict()) + "\n").encode())
    except OSError as error:
        raise DataError(f"cannot write {path}: {error}") from error


def read_metrics(path: str | os.PathLike[str]) -> Evaluation:
    """The evaluation in a ``metrics.json``; DataError where it is missing, damaged or of another schema."""
    path = Path(path)
    try:
        return Evaluation.from_dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, json.JSONDecodeError) as error:
        raise DataError(f"cannot read {path}: {error}") from error


def _pretty(value: Any, indent: str = "") -> str:
    """JSON with one key a line and every list of plain values on one line."""
    deeper = indent + " "
    if isinstance(value, dict) and value:
        items = [f"{deeper}{json.dumps(key)}: {_pretty(item, deeper)}" for key, item in value.items()]
        return "{\n" + ",\n".join(items) + f"\n{indent}}}"
    if isinstance(value, list) and any(isinstance(item, dict | list) for item in value):
        return "[\n" + ",\n".join(deeper + _pretty(item, deeper) for item in value) + f"\n{indent}]"
    return json.dumps(value, ensure_ascii=False, allow_nan=False)
