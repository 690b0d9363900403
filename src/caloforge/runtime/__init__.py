"""What every room that runs something shares: files, signals, progress, devices, random numbers."""

from typing import TYPE_CHECKING

from caloforge.lazy import lazily

if TYPE_CHECKING:
    from caloforge.runtime.execution import Execution

__getattr__, __dir__ = lazily(__name__, {"Execution": "execution"})

__all__ = ["Execution"]
