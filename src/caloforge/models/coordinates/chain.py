"""Transforms one after the other, and fitting them on batches."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from caloforge.errors import DataError, RecipeError
from caloforge.models.coordinates.base import Context, Transform, transform_from_dict

__all__ = ["Chain", "chain_from_dict", "fit_batches"]


class Chain(Transform):
    """Transforms applied in order: y = f_k(... f_1(x)); log-determinants add up.

    Fitting goes in passes: a pass fits the transforms up to and including the first unfitted one whose
    output depends on its statistics. `fit_batches` makes as many passes as are needed.

    Args:
        transforms: the parts, or their descriptions.
    """

    kind = "chain"
    forward_needs_fit = True

    def __init__(self, transforms: Sequence[Transform | Mapping[str, Any]]) -> None:
        super().__init__()
        if isinstance(transforms, Mapping | str):
            raise RecipeError("a chain is given by a list of transforms")
        parts = [t if isinstance(t, Transform) else transform_from_dict(t) for t in transforms]
        self.parts = nn.ModuleList(parts)
        self._seen: set[int] = set()

    def __iter__(self) -> Iterator[Transform]:
        return cast(Iterator[Transform], iter(self.parts))

    def __len__(self) -> int:
        return len(self.parts)

    def config(self) -> dict[str, Any]:
        return {"transforms": [part.to_dict() for part in self]}

    def extra_repr(self) -> str:
        return ""

    @property
    def fitted(self) -> bool:
        return all(part.fitted for part in self)

    def forward(self, x: Tensor, context: Context) -> tuple[Tensor, Tensor]:
        """y and the sum of the parts' log-determinants (n,)."""
        log_det = torch.zeros(len(x), dtype=x.dtype, device=x.device)
        for part in self:
            x, term = part(x, context)
            log_det = log_det + term
        return x, log_det

    def inverse(self, y: Tensor, context: Context) -> Tensor:
        for part in reversed(list(self)):
            y = part.inverse(y, context)
        return y

    @torch.no_grad()
    def fit(self, x: Tensor, context: Context) -> None:
        for i, part in enumerate(self):
            if not part.fitted:
                part.fit(x, context)
                self._seen.add(i)
                if part.forward_needs_fit:
                    return
            x, _ = part(x, context)

    def finish(self) -> None:
        """End this pass; DataError where it saw nothing although something was to be fitted."""
        if not self._seen and not self.fitted:
            raise DataError("a chain of transforms was fitted on no showers")
        for i, part in enumerate(self):
            if i in self._seen:
                part.finish()
        self._seen = set()


def chain_from_dict(description: Mapping[str, Any]) -> Chain:
    """Build a chain from `Chain.to_dict`; RecipeError where anything in it is unknown or illegal."""
    transform = transform_from_dict(description)
    if not isinstance(transform, Chain):
        raise RecipeError(f"expected a transform of kind 'chain', got {transform.kind!r}")
    return transform


def fit_batches(transform: Transform, batches: Callable[[], Iterable[tuple[Tensor, Context]]]) -> None:
    """Fit a transform or a chain on batches that can be gone through several times.

    Args:
        transform: what to fit; its own statistics only, so nothing happens where it is fitted already.
        batches: called once per pass; gives (x, context) of each batch, always the same ones.

    Raises:
        DataError: there are no showers.
    """
    while not transform.fitted:
        for x, context in batches():
            transform.fit(x, context)
        transform.finish()
