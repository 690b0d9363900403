"""What is derived from parameters again and again while they stay the same."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Generic, TypeVar

import torch
from torch import Tensor

__all__ = ["TensorCache"]

T = TypeVar("T")


class _Held(Generic[T]):
    """What was derived, of which parameters in which state, and how."""

    def __init__(self, parameters: Sequence[Tensor], derive: Callable[[], T]) -> None:
        self.parameters, self.derive = parameters, derive
        self.state = _state(parameters)
        # aliases keep the memory of the parameters from being used for others at the same address
        self.aliases = [p.detach() for p in parameters]
        self.derived = derive()


def _state(parameters: Sequence[Tensor]) -> list[tuple[int, int]] | None:
    """Where the parameters are and how often they were changed; None where one does not count its changes."""
    try:
        return [(p.data_ptr(), p._version) for p in parameters]
    except RuntimeError:  # made in inference mode
        return None


class TensorCache(Generic[T]):
    """Tensors, or other things, derived from parameters, until these change; anew where gradients are wanted.

    Parameters that are changed in place through ``.data`` look unchanged to torch and so to this class. While
    torch compiles, what was derived last is taken as it is: `refresh` is called before.
    """

    def __init__(self) -> None:
        self._held: dict[Hashable, _Held[T]] = {}

    def __reduce__(self) -> tuple[type[TensorCache[T]], tuple[()]]:
        return TensorCache, ()  # copies of a module derive their own

    def __call__(self, key: Hashable, parameters: Sequence[Tensor], derive: Callable[[], T]) -> T:
        """What ``derive`` gives of the parameters; ``key`` tells apart what one cache holds."""
        if torch.compiler.is_compiling():
            return self._held[key].derived if key in self._held else derive()
        if torch.is_grad_enabled():
            return derive()
        state = _state(parameters)
        if state is None:
            return derive()
        held = self._held.get(key)
        if held is None or held.state != state:
            held = self._held[key] = _Held(parameters, derive)
        return held.derived

    def refresh(self) -> None:
        """Derive anew what is held of parameters that have changed."""
        for key, held in self._held.items():
            if held.state != _state(held.parameters):
                self._held[key] = _Held(held.parameters, held.derive)
