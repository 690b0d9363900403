"""Where text goes out to a terminal: what files call themselves and their contents can do nothing there."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

__all__ = ["Screen", "inert"]

CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
"""Characters that move the cursor, change colours, clear the screen or turn the direction of writing."""


def inert(text: str) -> str:
    """The text with control characters but for tab and end of line as escapes, ``\\x1b``."""
    return CONTROL.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


class Screen(Console):
    """A `rich.console.Console` on which text is inert, and written as far as the encoding allows.

    Args:
        stderr: write on standard error instead of standard output.
        width: columns; by default those of the terminal, or 80.
    """

    def __init__(self, *, stderr: bool = False, width: int | None = None) -> None:
        super().__init__(stderr=stderr, width=width)

    def shown(self, text: str) -> str:
        """What is written of a text; characters that the encoding lacks become escapes, ``\\u2192``."""
        return inert(text).encode(self.encoding, "backslashreplace").decode(self.encoding)

    def render_str(self, text: str, **options: Any) -> Text:
        """As a `Console` does, of what is shown, so that columns are as wide as that."""
        return super().render_str(self.shown(text), **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """As a `Console` does, of what is shown."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=self.shown(segment.text))
