"""What is derived from parameters again and again while they stay the same."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Generic, TypeVar

import torch
from torch import Tensor

__all__ = ["TensorCache"]

T = TypeVar("T")


class TensorCache(Generic[T]):
    """Tensors, or other things, derived from parameters, until these change; anew where gradients are wanted.

    Parameters that are changed in place through ``.data`` look unchanged to torch and so to this class.
    """

    def __init__(self) -> None:
        self._held: dict[Hashable, tuple[list[tuple[int, int]], list[Tensor], T]] = {}

    def __reduce__(self) -> tuple[type[TensorCache[T]], tuple[()]]:
        return TensorCache, ()  # copies of a module derive their own

    def __call__(self, key: Hashable, parameters: Sequence[Tensor], derive: Callable[[], T]) -> T:
        """What ``derive`` gives of the parameters; ``key`` tells apart what one cache holds."""
        uncounted = any(p.is_inference() for p in parameters)  # such tensors do not count their changes
        if torch.is_grad_enabled() or torch.compiler.is_compiling() or uncounted:
            return derive()
        state = [(p.data_ptr(), p._version) for p in parameters]
        held = self._held.get(key)
        if held is None or held[0] != state:
            # aliases keep the memory of the parameters from being used for others at the same address
            held = self._held[key] = (state, [p.detach() for p in parameters], derive())
        return held[2]
