"""Methods of networks that torch's compiler turns into few kernels, where a model is asked for fused ones.

On a GPU every operation costs a launch. A method that many layers share is compiled once for each shape:
their weights are its inputs. Nothing is tuned by measuring: bits would depend on the machine's mood.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

import torch
from torch import Tensor, nn

from caloforge.errors import CaloforgeError
from caloforge.models.networks.tensor_cache import TensorCache
from caloforge.runtime.compiled import traced

__all__ = ["Fusable", "can_fuse", "fusable", "fuse"]

MOST_SHAPES = 256
"""Shapes that a method is compiled for; torch's own limit is 8."""
P = ParamSpec("P")
T = TypeVar("T")
N = TypeVar("N", bound="Fusable")


class Fusable(nn.Module):
    """A network with methods that are `fusable`.

    Attributes:
        fused: compile them when they are called without gradients.
        caches: what its layers have derived from their weights; None before the first call.
    """

    fused: bool = False
    caches: list[TensorCache[Any]] | None = None


def fusable(method: Callable[Concatenate[N, P], T]) -> Callable[Concatenate[N, P], T]:
    """A method of tensors that can be compiled; it must not depend on their values."""

    @wraps(method)
    def call(self: N, /, *args: P.args, **kwargs: P.kwargs) -> T:
        if not self.fused or traced() or torch.is_grad_enabled():
            return method(self, *args, **kwargs)
        if self.caches is None:
            method(self, *args, **kwargs)  # derives what the compiled one is given
            held = [getattr(module, "derived", None) for module in self.modules()]
            self.caches = [cache for cache in held if isinstance(cache, TensorCache)]
        for derived in self.caches:
            derived.refresh()
        result: T = _compiled(method)(self, *args, **kwargs)
        return result

    return call


@cache
def _compiled(method: Callable[..., T]) -> Callable[..., T]:
    import torch._dynamo.config as dynamo
    import torch._inductor.config as inductor
    from torch._dynamo.exc import TorchDynamoException

    for limit in ("recompile_limit", "cache_size_limit"):  # the second before torch 2.6
        if hasattr(dynamo, limit):
            setattr(dynamo, limit, max(getattr(dynamo, limit), MOST_SHAPES))
    options: dict[str, Any] = {"deterministic": True} if hasattr(inductor, "deterministic") else {}
    compiled: Callable[..., T] = torch.compile(method, fullgraph=True, dynamic=False, options=options)

    def call(*args: Any, **kwargs: Any) -> T:
        try:
            return compiled(*args, **kwargs)
        except TorchDynamoException as error:
            cause = getattr(error, "inner_exception", error)
            why = str(cause).strip().partition("\n")[0]
            raise CaloforgeError(
                f"torch can make no fused kernels of {method.__qualname__}: {type(cause).__name__}: {why}; "
                "leave kernels out, or ask for plain ones"
            ) from error

    return call


def can_fuse(model: nn.Module) -> bool:
    """Whether any of its networks has fusable methods."""
    return any(isinstance(network, Fusable) for network in model.modules())


def fuse(model: nn.Module, device: torch.device, yes: bool) -> None:
    """Have the networks of a model compile their fusable methods, or not.

    Raises:
        CaloforgeError: torch cannot compile for the device; it says why.
    """
    if yes and can_fuse(model):
        with torch.no_grad():
            _compiled(_example)(torch.zeros(2, device=device))  # fails where nothing can be compiled
    for network in model.modules():
        if isinstance(network, Fusable):
            network.fused, network.caches = yes, None


def _example(x: Tensor) -> Tensor:
    return x.exp() + 1
