"""Functions of times: numbers for all showers of a step, or tensors with one for each shower.

A sampler's times are known beforehand. As Python numbers they cost a GPU neither a copy nor a wait, and an
exported or captured `decode` holds them as constants. Training draws a time for each shower, on its device.
"""

from __future__ import annotations

import math
from typing import TypeVar

import torch
from torch import Tensor

__all__ = ["T", "acos", "atan", "clamp", "constant", "cos", "log", "per_shower", "power", "sin"]

T = TypeVar("T", float, Tensor)
"""A time, or what depends on it: a number, or (n,)."""


def cos(t: T) -> T:
    return t.cos() if isinstance(t, Tensor) else math.cos(t)


def sin(t: T) -> T:
    return t.sin() if isinstance(t, Tensor) else math.sin(t)


def acos(t: T) -> T:
    return t.acos() if isinstance(t, Tensor) else math.acos(t)


def atan(t: T) -> T:
    return t.atan() if isinstance(t, Tensor) else math.atan(t)


def log(t: T) -> T:
    return t.log() if isinstance(t, Tensor) else math.log(t)


def power(t: T, exponent: float) -> T:
    return t**exponent if isinstance(t, Tensor) else math.pow(t, exponent)


def clamp(t: T, low: float, high: float = math.inf) -> T:
    """t, but at least ``low`` and at most ``high``."""
    return t.clamp(low, high) if isinstance(t, Tensor) else min(max(t, low), high)


def constant(value: float, t: T) -> T:
    """The same value at all times."""
    return torch.full_like(t, value) if isinstance(t, Tensor) else value


def per_shower(t: Tensor | float, x: Tensor) -> Tensor | float:
    """Numbers (n,) as (n, 1, …) beside x (n, *); one for all showers as it is, which leaves the type of x."""
    return t.to(x).reshape(-1, *[1] * (x.dim() - 1)) if isinstance(t, Tensor) else t
