"""A process's share of a batch: random numbers are drawn for all showers, and each process takes its own.

Several processes then see the random numbers that one would see, without a change to what draws them. A
tensor of random numbers belongs to n showers along its first axis, where that has n numbers or n times k,
shower by shower, or else along the first axis that has n; one without is the same for all showers.
"""

# TorchDispatchMode has no types
# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from caloforge.errors import TrainingError

__all__ = ["Share", "places"]

Kind = Literal["plain", "size", "n", "like", "in place", "dropout", "attention", "unknown"]
RANDOM = re.compile(
    "rand|drop|bernoulli|normal|uniform|exponential|geometric|cauchy|gumbel|multinomial|poisson|gamma|rrelu"
    "|attention|lstm|gru|rnn"
)
"""Functions of torch that may draw random numbers, by name."""
ATTENTION = ("dropout_p", "dropout")
"""Arguments of operations that are random only where these are not 0."""


class Share(TorchFunctionMode):
    """Showers ``start`` … ``stop`` − 1 of a batch of ``whole`` showers, which one of several processes has.

    As a context it makes random numbers those of these showers. All processes must have seeded alike.

    Args:
        whole: showers of the batch.
        process, n_processes: which process, of how many.
    """

    active: ClassVar[Share | None] = None

    def __init__(self, whole: int, process: int = 0, n_processes: int = 1) -> None:
        super().__init__()
        self.whole = whole
        self.start, self.stop = (whole * i // n_processes for i in (process, process + 1))

    def __len__(self) -> int:
        return self.stop - self.start

    @property
    def rows(self) -> slice:
        """The showers, of those of the batch."""
        return slice(self.start, self.stop)

    def drawing(self) -> AbstractContextManager[Any]:
        """The context in which random numbers are this share's; nothing where it is the whole batch."""
        return nullcontext() if len(self) == self.whole else self

    def __enter__(self) -> Share:
        Share.active = self
        super().__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        Share.active = None
        super().__exit__(*error)

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if not _may_draw(func):  # most: looking at each operation would cost more than some of them
            return func(*args, **(kwargs or {}))
        with _Draws(self):
            return func(*args, **(kwargs or {}))

    def draw(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """What an operation of torch makes for these showers.

        Raises:
            TrainingError: it is random in a way that cannot be shared.
        """
        kind = _kind(func)
        if kind == "plain":
            return func(*args, **kwargs)
        named = {a.name: value for a, value in zip(func._schema.arguments, args, strict=False)} | kwargs
        if kind == "attention" and not any(named.get(name) for name in ATTENTION):
            return func(*args, **kwargs)
        if kind in ("size", "n"):
            return self._made(func, kind, named)
        if kind in ("like", "in place", "dropout"):
            return self._beside(func, kind, args, kwargs)
        raise TrainingError(
            f"the random numbers of {func} cannot be shared by several processes; draw with torch.rand, "
            "randn, randint, randperm, their …_like, in-place methods or nn.Dropout, or train in one process"
        )

    def _made(self, func: Any, kind: Kind, named: dict[str, Any]) -> Any:
        """A new tensor of random numbers."""
        key = "n" if kind == "n" else "size"
        shape = [named["n"]] if kind == "n" else list(named["size"])
        axis = self._axis(shape)
        if axis is None:
            return func(**named)
        large = self._large(shape, axis)
        return self._own(func(**named | {key: large[0] if kind == "n" else large}), axis, shape).contiguous()

    def _beside(self, func: Any, kind: Kind, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Random numbers for a tensor that is there, drawn in the order in which it lies in memory."""
        x, *rest = args
        axis = self._axis(x.shape)
        if axis is None or (kind == "dropout" and not rest[1]):
            return func(*args, **kwargs)
        order = sorted(range(x.dim()), key=lambda i: -x.stride(i))
        large = self._large(x.shape, axis)
        empty = x.new_empty([large[i] for i in order]).permute([order.index(i) for i in range(x.dim())])
        if kind == "dropout":
            mask = self._own(func(empty.fill_(1), *rest, **kwargs)[1], axis, x.shape)
            return x * mask * (1 / (1 - rest[0]) if rest[0] < 1 else 0.0), mask
        drawn = self._own(func(empty, *rest, **kwargs), axis, x.shape)
        return x.copy_(drawn) if kind == "in place" else drawn.clone()

    def _axis(self, shape: Any) -> int | None:
        n = len(self)
        if shape and shape[0] and shape[0] % n == 0:
            return 0
        return next((axis for axis, size in enumerate(shape) if size == n), None)

    def _large(self, shape: Any, axis: int) -> list[int]:
        return [*shape[:axis], shape[axis] // len(self) * self.whole, *shape[axis + 1 :]]

    def _own(self, drawn: Tensor, axis: int, shape: Any) -> Tensor:
        each = shape[axis] // len(self)
        return drawn.narrow(axis, self.start * each, shape[axis])


class _Draws(TorchDispatchMode):
    """Looks at each operation of a function that may draw random numbers."""

    def __init__(self, share: Share) -> None:
        super().__init__()
        self.share = share

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        return self.share.draw(func, args, kwargs or {})


@cache
def _may_draw(func: Callable[..., Any]) -> bool:
    return RANDOM.search(getattr(func, "__name__", "")) is not None


@cache
def _kind(func: Callable[..., Any]) -> Kind:
    """How an operation of torch draws random numbers."""
    if torch.Tag.nondeterministic_seeded not in func.tags:  # type: ignore[attr-defined]
        return "plain"
    schema = func._schema  # type: ignore[attr-defined]
    name, arguments = schema.name.removeprefix("aten::"), [a.name for a in schema.arguments]
    tensors = sum("Tensor" in str(a.type) for a in schema.arguments)
    if "out" in arguments:
        return "unknown"
    if name in ("rand", "randn", "randint"):
        return "size"
    if name == "native_dropout":
        return "dropout"
    if name == "randperm":
        return "n"
    if name.endswith("_like") and tensors == 1:
        return "like"
    if name.endswith("_") and tensors == 1:
        return "in place"
    return "attention" if any(argument in ATTENTION for argument in arguments) else "unknown"


def places(n: int, device: torch.device | str) -> tuple[Tensor, int]:
    """Places of n showers in the whole batch, (n,), and how many it has, for draws that differ by place."""
    share = Share.active
    start, whole = (0, n) if share is None or len(share) != n else (share.start, share.whole)
    return torch.arange(start, start + n, device=device), whole
