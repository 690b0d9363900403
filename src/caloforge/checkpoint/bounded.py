"""Building a model for weights that are there, of settings that may say anything.

A file of a few bytes may ask for a network of any size. Its weights are there, too, so that one which has far
more of them need not be built to the end.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from torch.nn.modules import module as hooks

from caloforge.errors import CheckpointError

__all__ = ["UNBUILT", "no_larger_than"]

UNBUILT = (ValueError, TypeError, LookupError, ArithmeticError, RuntimeError, MemoryError, AssertionError)
"""What models raise for settings or cells that they cannot be built for, MeshError and RecipeError too."""
TIMES = 4
"""Weights may be this many times those that are there, since some are shared or made for a while only."""
TENSORS, NUMBERS = 1000, 100_000_000
"""… and these more: tables of where cells lie are made anew, a thousand numbers for each of 100,000 cells."""


@contextmanager
def no_larger_than(tensors: Mapping[str, Tensor]) -> Iterator[None]:
    """CheckpointError where a model that is built here has far more weights than there are."""
    left = TIMES * len(tensors) + TENSORS, TIMES * sum(t.numel() for t in tensors.values()) + NUMBERS
    count, numbers = left

    def register(module: nn.Module, name: str, weight: Any) -> None:
        nonlocal count, numbers
        count -= 1
        numbers -= weight.numel() if isinstance(weight, Tensor) else 0
        if count < 0 or numbers < 0:
            raise CheckpointError("the settings are those of a far larger model than the weights are for")

    handles = [
        hooks.register_module_parameter_registration_hook(register),
        hooks.register_module_buffer_registration_hook(register),
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
