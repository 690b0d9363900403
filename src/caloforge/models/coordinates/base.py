"""What every transform is: a map of a batch, its inverse, its log-determinant and a JSON-able description.

Legend: ``n`` showers in a batch, ``Z`` layers, ``V`` voxels, ``S`` the shape of one example.
Energies are MeV. Nothing here draws random numbers: noise comes in with the context.
"""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self, TypedDict

import torch
from torch import Tensor, nn

from caloforge.errors import DataError, RecipeError

__all__ = ["Context", "Transform", "non_negative", "positive", "transform_from_dict"]


class Context(TypedDict, total=False):
    """What a transform may need beside its input; each transform says which entries it reads.

    Attributes:
        energy: incident kinetic energy, MeV, (n,).
        layer_energies: energy in each layer, MeV, (n, Z).
        noise: uniform numbers in (0, 1), as many for each shower as the input has values.
    """

    energy: Tensor
    layer_energies: Tensor
    noise: Tensor


class Transform(nn.Module, ABC):
    """An invertible map of a batch (n, *S); subclasses give a ``kind``, `forward`, `inverse` and `config`.

    Fitted statistics are buffers, so that they travel with the state dict; settings are in `to_dict`.
    A subclass is known to `transform_from_dict` as soon as its module is imported.
    """

    kind: ClassVar[str] = ""
    registry: ClassVar[dict[str, type[Transform]]] = {}
    forward_needs_fit: ClassVar[bool] = False
    """True where `forward` uses fitted statistics: what follows in a chain is then fitted in a later pass."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if cls.kind:
            known = Transform.registry.setdefault(cls.kind, cls)
            if known.__qualname__ != cls.__qualname__ or known.__module__ != cls.__module__:
                raise TypeError(f"two transforms are of kind {cls.kind!r}: {known} and {cls}")
            Transform.registry[cls.kind] = cls

    @abstractmethod
    def forward(self, x: Tensor, context: Context) -> tuple[Tensor, Tensor]:
        """Transform x (n, *S): y and log|det ∂y/∂x| of each example, (n,)."""

    @abstractmethod
    def inverse(self, y: Tensor, context: Context) -> Tensor:
        """Undo `forward`: x (n, *S); needs no noise."""

    @abstractmethod
    def config(self) -> dict[str, Any]:
        """The arguments that build this transform again, JSON-able."""

    @property
    def fitted(self) -> bool:
        """True where there is nothing to fit, or where it has been fitted."""
        return True

    def fit(self, x: Tensor, context: Context) -> None:
        """Take a batch x (n, *S) into the running statistics; call on every batch, then `finish`."""

    def finish(self) -> None:
        """Turn the running statistics into buffers; DataError where `fit` saw nothing."""

    def to_dict(self) -> dict[str, Any]:
        """``{"kind": ..., **config}``, JSON-able; `transform_from_dict` reads it."""
        return {"kind": self.kind, **self.config()}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """Build from `config`; RecipeError where a key or a value is wrong."""
        allowed = [name for name in inspect.signature(cls).parameters if name != "self"]
        unknown = sorted(set(config) - set(allowed))
        if unknown:
            raise RecipeError(
                f"transform {cls.kind!r} has no setting {', '.join(map(repr, unknown))}; "
                f"it has {', '.join(map(repr, allowed)) or 'none'}"
            )
        try:
            return cls(**config)
        except RecipeError:
            raise
        except (TypeError, ValueError) as error:
            raise RecipeError(f"transform {cls.kind!r}: {error}") from error

    def extra_repr(self) -> str:
        return ", ".join(f"{name}={value!r}" for name, value in self.config().items())

    def need(self, context: Context, key: Literal["energy", "layer_energies", "noise"]) -> Tensor:
        """An entry of the context, or a RecipeError that says who misses it."""
        if key not in context:
            given = ", ".join(context) or "nothing"
            raise RecipeError(
                f"transform {self.kind!r} needs {key!r} in its context, which has {given}; pass it in"
            )
        return context[key]

    def need_noise(self, context: Context, x: Tensor) -> Tensor:
        """The context's uniform numbers in the shape and type of x (n, *S)."""
        noise = self.need(context, "noise")
        if noise.shape[:1] != x.shape[:1] or noise.numel() != x.numel():
            raise RecipeError(
                f"transform {self.kind!r}: noise of shape {tuple(noise.shape)} does not fit {tuple(x.shape)}"
            )
        return noise.to(x.dtype).reshape(x.shape)

    def require_fit(self) -> None:
        """RecipeError unless fitted; skipped while a graph is captured."""
        if not captured() and not self.fitted:
            raise RecipeError(f"transform {self.kind!r} has not been fitted; fit it on training data first")


def captured() -> bool:
    """True while a graph is compiled, exported or traced: checks of values do not belong in it."""
    tracing = bool(torch.jit.is_tracing())  # type: ignore[attr-defined, no-untyped-call]
    return tracing or torch.compiler.is_compiling()


def per_energy(values: Tensor, x: Tensor) -> Tensor:
    """Values (n,) as (n, 1, ..., 1) of x's type, to multiply x (n, *S) with."""
    return values.to(x.dtype).reshape(-1, *(1,) * (x.dim() - 1))


def sum_examples(values: Tensor) -> Tensor:
    """Sum over all axes but the first: (n, *S) → (n,)."""
    return values.flatten(1).sum(1) if values.dim() > 1 else values


def require_all(legal: Tensor, x: Tensor, message: str) -> None:
    """DataError that names the first illegal value of x and its place, unless all are legal; both (n, *S)."""
    if captured() or bool(legal.all()):
        return
    place = [int(i) for i in (~legal).nonzero()[0]]
    raise DataError(f"shower {place[0]}, value {place[1:]} is {float(x[tuple(place)])}: {message}")


def positive(name: str, value: float) -> float:
    """A finite number above zero, or a RecipeError."""
    number = float(value)
    if not 0 < number < float("inf"):
        raise RecipeError(f"{name} must be positive and finite, got {value}")
    return number


def non_negative(name: str, value: float) -> float:
    """A finite number of at least zero, or a RecipeError."""
    number = float(value)
    if not 0 <= number < float("inf"):
        raise RecipeError(f"{name} must be at least 0 and finite, got {value}")
    return number


def transform_from_dict(description: Mapping[str, Any]) -> Transform:
    """Build a transform from `Transform.to_dict`; statistics come later, with the state dict.

    Raises:
        RecipeError: unknown kind, unknown setting or illegal value.
    """
    if not isinstance(description, Mapping):
        raise RecipeError(f"a transform is described by a table with a 'kind', got {description!r}")
    fields = dict(description)
    kind = fields.pop("kind", None)
    if kind not in Transform.registry:
        known = ", ".join(sorted(Transform.registry))
        raise RecipeError(f"unknown transform {kind!r}; known are {known}")
    return Transform.registry[kind].from_config(fields)
