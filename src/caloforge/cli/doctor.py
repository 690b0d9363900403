"""``caloforge doctor``: what a bug report says first."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from caloforge.cli.output import say

__all__ = ["doctor"]


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")] = False,
) -> None:
    """Say what caloforge will compute with here, what is missing and how to get it."""
    from caloforge.doctor import examine
    from caloforge.runtime.structured import json_text

    parts = examine()
    if as_json:
        plain = {part: {name: asdict(f) for name, f in found.items()} for part, found in parts.items()}
        print(json_text(plain, indent=2))
        return
    for part, found in parts.items():
        say(part)
        for name, finding in found.items():
            say(f"  {finding.state:8}{name}: {finding.value}")
            if finding.remedy:
                say(f"{'':10}→ {finding.remedy}")
