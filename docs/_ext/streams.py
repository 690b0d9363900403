"""What a cell of a tutorial writes, as it was written.

`%%bash` writes 100 bytes at a time, and myst-nb ends each piece with a new line.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from myst_nb.core import render
from sphinx.application import Sphinx

Outputs = list[dict[str, Any]]


def joined(outputs: Outputs) -> Outputs:
    """All pieces of a stream are one, in the place of the first."""
    found: Outputs = []
    streams: dict[str, dict[str, Any]] = {}
    for output in outputs:
        if output["output_type"] == "stream" and output["name"] in streams:
            streams[output["name"]]["text"] += output["text"]
            continue
        found.append(output)
        if output["output_type"] == "stream":
            streams[output["name"]] = output
    return found


def after_joining(coalesce: Callable[[Outputs], Outputs]) -> Callable[[Outputs], Outputs]:
    return lambda outputs: coalesce(joined(outputs))


def setup(app: Sphinx) -> dict[str, bool]:
    render.coalesce_streams = after_joining(render.coalesce_streams)
    return {"parallel_read_safe": True}
