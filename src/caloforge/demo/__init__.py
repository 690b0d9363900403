"""A page that makes a model's showers in a browser, without a network."""

from __future__ import annotations

from typing import TYPE_CHECKING

from caloforge.lazy import lazily

if TYPE_CHECKING:
    from caloforge.demo.build import write_demo

__getattr__, __dir__ = lazily(__name__, {"write_demo": "build"})

__all__ = ["write_demo"]
