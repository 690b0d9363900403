"""What each operation of torch is in ONNX.

A function is given the writer, what the operation gives (type and shape), and its arguments, which are
values, constants (tensors), sizes and numbers. What has constant arguments alone never gets here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch

from caloforge.exports.formats.writer import Like, Value, Writer

__all__ = ["OPERATIONS"]

Convert = Callable[..., Any]
OPERATIONS: dict[str, Convert] = {}
END = 2**62
"""Slices to the end have this or more."""


def operation(*names: str) -> Callable[[Convert], Convert]:
    """Add a function under names of operations."""

    def add(convert: Convert) -> Convert:
        OPERATIONS.update(dict.fromkeys(names, convert))
        return convert

    return add


def axis_of(dim: int, shape: Sequence[Any]) -> int:
    return dim % max(len(shape), 1)


def _axes(dims: int | Sequence[int] | None, shape: Sequence[Any]) -> list[int]:
    if dims is None or dims == []:
        return list(range(len(shape)))
    return [axis_of(d, shape) for d in ([dims] if isinstance(dims, int) else dims)]


def shape_of(x: Any) -> tuple[Any, ...]:
    return tuple(x.shape) if isinstance(x, (Value, torch.Tensor)) else ()


def numbers(*values: int) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.int64)


# numbers by themselves


def _unary(kind: str) -> Convert:
    return lambda w, out, x: w.op(kind, out, w.cast(x, out.dtype))


for _names, _kind in (
    ("neg", "Neg"), ("exp", "Exp"), ("log", "Log"), ("sqrt", "Sqrt"), ("abs", "Abs"),
    ("sigmoid", "Sigmoid"), ("tanh", "Tanh"), ("sin", "Sin"), ("cos", "Cos"), ("floor", "Floor"),
    ("round", "Round"), ("reciprocal", "Reciprocal"), ("sign sgn", "Sign"), ("erf", "Erf"), ("relu", "Relu"),
    ("ceil", "Ceil"), ("asinh", "Asinh"), ("acos", "Acos"), ("atan", "Atan"), ("tan", "Tan"),
):  # fmt: skip
    operation(*_names.split())(_unary(_kind))


@operation(
    "alias",
    "clone",
    "contiguous",
    "detach",
    "detach_",
    "lift_fresh_copy",
    "lift_fresh",
    "dropout",
    "positive",
)
def _same(w: Writer, out: Like, x: Any, *_: Any, **__: Any) -> Any:
    return x


@operation("to", "_to_copy", "type_as", "float", "double")
def _to(w: Writer, out: Like, x: Any, *_: Any, **__: Any) -> Any:
    return w.cast(x, out.dtype)


@operation("logical_not", "bitwise_not")
def _not(w: Writer, out: Like, x: Any) -> Value:
    return w.op("Not", out, w.cast(x, torch.bool))


@operation("softplus")
def _softplus(w: Writer, out: Like, x: Any, beta: float = 1, threshold: float = 20) -> Value:
    if beta != 1:
        raise NotImplementedError(f"softplus with beta {beta}")
    return w.op("Softplus", out, x)


@operation("log_sigmoid")
def _log_sigmoid(w: Writer, out: Like, x: Any) -> Value:
    return w.op("Neg", out, w.op("Softplus", out, w.op("Neg", out, x)))


@operation("silu")
def _silu(w: Writer, out: Like, x: Any) -> Value:
    return w.op("Mul", out, x, w.op("Sigmoid", out, x))


@operation("leaky_relu")
def _leaky(w: Writer, out: Like, x: Any, slope: float = 0.01) -> Value:
    return w.op("LeakyRelu", out, x, alpha=float(slope))


@operation("elu")
def _elu(w: Writer, out: Like, x: Any, alpha: float = 1.0) -> Value:
    return w.op("Elu", out, x, alpha=float(alpha))


@operation("gelu")
def _gelu(w: Writer, out: Like, x: Any, *, approximate: str = "none") -> Value:
    if approximate == "tanh":
        cubic = w.op("Mul", out, w.op("Mul", out, x, x), w.op("Mul", out, x, torch.tensor(0.044715)))
        inner = w.op("Mul", out, w.op("Add", out, x, cubic), torch.tensor(math.sqrt(2 / math.pi)))
        bent = w.op("Tanh", out, inner)
    else:
        bent = w.op("Erf", out, w.op("Mul", out, x, torch.tensor(math.sqrt(0.5))))
    half = w.op("Mul", out, x, torch.tensor(0.5))
    return w.op("Mul", out, half, w.op("Add", out, bent, torch.tensor(1.0)))


@operation("square")
def _square(w: Writer, out: Like, x: Any) -> Value:
    return w.op("Mul", out, x, x)


@operation("rsqrt")
def _rsqrt(w: Writer, out: Like, x: Any) -> Value:
    return w.op("Reciprocal", out, w.op("Sqrt", out, x))


@operation("log1p")
def _log1p(w: Writer, out: Like, x: Any) -> Value:
    return w.op("Log", out, w.op("Add", out, x, torch.tensor(1, dtype=out.dtype)))


@operation("expm1")
def _expm1(w: Writer, out: Like, x: Any) -> Value:
    return w.op("Sub", out, w.op("Exp", out, x), torch.tensor(1, dtype=out.dtype))


@operation("logit")
def _logit(w: Writer, out: Like, x: Any) -> Value:
    rest = w.op("Sub", out, torch.tensor(1.0), x)
    return w.op("Log", out, w.op("Div", out, x, rest))


# numbers with others


def _binary(kind: str) -> Convert:
    def convert(w: Writer, out: Like, a: Any, b: Any, *, alpha: float = 1) -> Value:
        a, b = w.cast(a, out.dtype), w.cast(b, out.dtype)
        if alpha != 1:
            b = w.op("Mul", Like(out.dtype, shape_of(b)), b, torch.tensor(alpha, dtype=out.dtype))
        return w.op(kind, out, a, b)

    return convert


for _names, _kind in (
    ("add", "Add"), ("sub", "Sub"), ("mul", "Mul"), ("maximum", "Max"), ("minimum", "Min"),
    ("logical_and", "And"), ("logical_or", "Or"), ("logical_xor", "Xor"),
):  # fmt: skip
    operation(*_names.split())(_binary(_kind))


@operation("div", "true_divide", "floor_divide")
def _div(w: Writer, out: Like, a: Any, b: Any, *, rounding_mode: str | None = None) -> Value:
    made = w.op("Div", out, w.cast(a, out.dtype), w.cast(b, out.dtype))
    if rounding_mode and out.dtype.is_floating_point:
        return w.op({"floor": "Floor"}[rounding_mode], out, made)
    return made  # of whole numbers that are not negative


@operation("rsub")
def _rsub(w: Writer, out: Like, a: Any, b: Any, alpha: float = 1) -> Value:
    return w.op("Sub", out, w.cast(b, out.dtype), w.cast(a, out.dtype))


@operation("remainder")
def _remainder(w: Writer, out: Like, a: Any, b: Any) -> Value:
    a, b = w.cast(a, out.dtype), w.cast(b, out.dtype)
    if not out.dtype.is_floating_point:
        return w.op("Mod", out, a, b)
    times = w.op("Floor", out, w.op("Div", out, a, b))
    return w.op("Sub", out, a, w.op("Mul", out, times, b))


@operation("pow")
def _pow(w: Writer, out: Like, a: Any, b: Any) -> Value:
    if isinstance(b, (int, float)) and b == 2:
        a = w.cast(a, out.dtype)
        return w.op("Mul", out, a, a)
    return w.op("Pow", out, w.cast(a, out.dtype), w.cast(b, out.dtype))


@operation("addcmul")
def _addcmul(w: Writer, out: Like, x: Any, a: Any, b: Any, *, value: float = 1) -> Value:
    product = w.op("Mul", out, a, b)
    if value != 1:
        product = w.op("Mul", out, product, torch.tensor(value, dtype=out.dtype))
    return w.op("Add", out, x, product)


@operation("lerp")
def _lerp(w: Writer, out: Like, a: Any, b: Any, weight: Any) -> Value:
    step = w.op("Mul", out, w.op("Sub", out, b, a), w.cast(weight, out.dtype))
    return w.op("Add", out, a, step)


def _comparison(kind: str) -> Convert:
    def convert(w: Writer, out: Like, a: Any, b: Any) -> Value:
        common = w.common(a, b)
        if common == torch.bool:
            common = torch.int32
        return w.op(kind, out, w.cast(a, common), w.cast(b, common))

    return convert


for _names, _kind in (
    ("eq", "Equal"), ("lt", "Less"), ("le", "LessOrEqual"), ("gt", "Greater"), ("ge", "GreaterOrEqual"),
):  # fmt: skip
    operation(*_names.split())(_comparison(_kind))


@operation("ne")
def _ne(w: Writer, out: Like, a: Any, b: Any) -> Any:
    return w.op("Not", out, OPERATIONS["eq"](w, out, a, b))


def _bitwise(kind: str) -> Convert:
    def convert(w: Writer, out: Like, a: Any, b: Any) -> Value:
        name = kind if out.dtype == torch.bool else f"Bitwise{kind}"
        return w.op(name, out, w.cast(a, out.dtype), w.cast(b, out.dtype))

    return convert


for _names, _kind in (
    ("bitwise_and __and__", "And"),
    ("bitwise_or __or__", "Or"),
    ("bitwise_xor __xor__", "Xor"),
):
    operation(*_names.split())(_bitwise(_kind))


@operation("bitwise_right_shift", "__rshift__")
def _right(w: Writer, out: Like, x: Any, by: int) -> Value:
    """Of whole numbers that are not negative."""
    return w.op("Div", out, x, torch.tensor(1 << by))


@operation("bitwise_left_shift", "__lshift__")
def _left(w: Writer, out: Like, x: Any, by: int) -> Value:
    return w.op("Mul", out, x, torch.tensor(1 << by))


@operation("randn")
def _randn(w: Writer, out: Like, sizes: Sequence[Any], **_: Any) -> Value:
    like = w.op("ConstantOfShape", out, w.sizes(sizes))
    return w.op("RandomNormalLike", out, like, dtype=1)


@operation("where")
def _where(w: Writer, out: Like, chosen: Any, a: Any, b: Any) -> Value:
    chosen, a, b = w.cast(chosen, torch.bool), w.cast(a, out.dtype), w.cast(b, out.dtype)
    if out.dtype == torch.bool:
        other = w.op("And", out, w.op("Not", Like(torch.bool, shape_of(chosen)), chosen), b)
        return w.op("Or", out, w.op("And", out, chosen, a), other)
    return w.op("Where", out, chosen, a, b)


@operation("masked_fill")
def _masked_fill(w: Writer, out: Like, x: Any, chosen: Any, value: Any) -> Any:
    return OPERATIONS["where"](w, out, chosen, value, x)


@operation("clamp", "clamp_min")
def _clamp(w: Writer, out: Like, x: Any, low: Any = None, high: Any = None, *, max: Any = None) -> Any:
    made = w.cast(x, out.dtype)
    for kind, limit in (("Max", low), ("Min", high if high is not None else max)):
        if limit is not None:
            made = w.op(kind, out, made, w.cast(limit, out.dtype))
    return made


@operation("clamp_max")
def _clamp_max(w: Writer, out: Like, x: Any, high: Any) -> Any:
    return _clamp(w, out, x, None, high)


# along axes


def _reduction(kind: str) -> Convert:
    def convert(w: Writer, out: Like, x: Any, dim: Any = None, keepdim: bool = False, **_: Any) -> Value:
        axes = _axes(dim, shape_of(x))
        return w.op(kind, out, w.cast(x, out.dtype), numbers(*axes), keepdims=int(keepdim))

    return convert


for _names, _kind in (
    ("mean", "ReduceMean"),
    ("prod", "ReduceProd"),
    ("amax", "ReduceMax"),
    ("amin", "ReduceMin"),
    ("logsumexp", "ReduceLogSumExp"),
):
    operation(*_names.split())(_reduction(_kind))


@operation("sum")
def _sum(w: Writer, out: Like, x: Any, dim: Any = None, keepdim: bool = False, **_: Any) -> Any:
    return _reduction("ReduceSum")(w, out, x, dim, keepdim)


def _logical(kind: str) -> Convert:
    def convert(w: Writer, out: Like, x: Any, dim: Any = None, keepdim: bool = False) -> Value:
        whole = w.cast(w.cast(x, torch.bool), torch.int32)
        made = _reduction(kind)(w, Like(torch.int32, out.shape), whole, dim, keepdim)
        return w.op("Cast", out, made, to=9)

    return convert


operation("any")(_logical("ReduceMax"))
operation("all")(_logical("ReduceMin"))


@operation("argmax")
def _argmax(w: Writer, out: Like, x: Any, dim: int = 0, keepdim: bool = False) -> Value:
    return w.op("ArgMax", out, x, axis=axis_of(dim, shape_of(x)), keepdims=int(keepdim))


@operation("cumsum")
def _cumsum(w: Writer, out: Like, x: Any, dim: int, **_: Any) -> Value:
    return w.op("CumSum", out, w.cast(x, out.dtype), torch.tensor(axis_of(dim, shape_of(x))))


def _softmax(kind: str) -> Convert:
    return lambda w, out, x, dim, *_, **__: w.op(kind, out, x, axis=axis_of(dim, shape_of(x)))


operation("softmax", "_softmax")(_softmax("Softmax"))
operation("log_softmax", "_log_softmax")(_softmax("LogSoftmax"))


def top(w: Writer, x: Value, outs: Sequence[Like], k: int, dim: int, largest: bool) -> list[Value]:
    """The k largest or smallest along an axis, and where they were."""
    names = w.node(
        "TopK", [w.name(x), w.name(numbers(k))], 2, axis=axis_of(dim, x.shape), largest=int(largest)
    )
    return [Value(name, out.dtype, out.shape) for name, out in zip(names, outs, strict=True)]


@operation("sort")
def _sort(w: Writer, outs: Sequence[Like], x: Any, *args: Any, **kwargs: Any) -> list[Value]:
    given = {**dict(zip(("dim", "descending"), (a for a in args if a is not None), strict=False)), **kwargs}
    dim = given.get("dim", -1)
    return top(w, x, outs, x.shape[dim], dim, bool(given.get("descending", False)))


@operation("topk")
def _topk(
    w: Writer, outs: Sequence[Like], x: Any, k: int, dim: int = -1, largest: bool = True, *_: Any, **__: Any
) -> list[Value]:
    return top(w, x, outs, k, dim, largest)


@operation("argsort")
def _argsort(w: Writer, out: Like, x: Any, *args: Any, **kwargs: Any) -> Any:
    return _sort(w, [Like(x.dtype, out.shape), out], x, *args, **kwargs)[1]


@operation("max", "min")
def _extreme(w: Writer, outs: Any, *_: Any) -> Any:
    raise NotImplementedError("max and min along an axis; use amax, amin or argmax")
