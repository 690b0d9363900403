"""Names of model classes, "module:Class", as recipes and checkpoints write them."""

from __future__ import annotations

from typing import Any

__all__ = ["current_name", "current_names"]

MOVED = {
    "upsampling": "supercalo.chain",
    "flow.supercalo": "supercalo.coarse",
    "flow.supercalo_fine": "supercalo.fine",
}
"""Where modules are now that older recipes and checkpoints call by another name."""


def current_name(name: str) -> str:
    """What a model class is called now."""
    module, colon, class_name = name.partition(":")
    return f"{MOVED.get(module, module)}{colon}{class_name}"


def current_names(table: Any) -> Any:
    """The same nested tables with current names of models, so that two can be compared."""
    if isinstance(table, dict):
        return {
            key: current_name(value) if key == "model" and isinstance(value, str) else current_names(value)
            for key, value in table.items()
        }
    return [current_names(value) for value in table] if isinstance(table, list) else table
