"""What is made of parameters again and again while they stay the same."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence

import torch
from torch import Tensor

__all__ = ["Kept"]


class Kept:
    """Tensors made of parameters, kept until these change; made anew where gradients are wanted.

    Parameters that are changed in place through ``.data`` look unchanged to torch and so to this class.
    """

    def __init__(self) -> None:
        self._held: dict[Hashable, tuple[list[tuple[int, int]], Tensor]] = {}

    def __reduce__(self) -> tuple[type[Kept], tuple[()]]:
        return Kept, ()  # copies of a module keep their own

    def __call__(self, key: Hashable, parameters: Sequence[Tensor], make: Callable[[], Tensor]) -> Tensor:
        """What ``make`` makes of the parameters; ``key`` tells apart what one object keeps."""
        untracked = torch.compiler.is_compiling() or any(p.is_inference() for p in parameters)
        if torch.is_grad_enabled() or untracked:
            return make()
        state = [(p.data_ptr(), p._version) for p in parameters]
        held = self._held.get(key)
        if held is None or held[0] != state:
            held = self._held[key] = (state, make())
        return held[1]
