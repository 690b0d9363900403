"""Products of matrices, convolutions and norms, in ONNX; see `onnx_operations`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from caloforge.exports.formats.onnx_operations import operation, shape_of
from caloforge.exports.formats.onnx_shapes import OPERATIONS, transposed, turned
from caloforge.exports.formats.writer import Like, Value, Writer

__all__ = ["OPERATIONS"]


@operation("mm", "bmm", "matmul")
def _matmul(w: Writer, out: Like, a: Any, b: Any) -> Value:
    return w.op("MatMul", out, a, b)


@operation("linear")
def _linear(w: Writer, out: Like, x: Any, weight: Any, bias: Any = None) -> Value:
    if isinstance(weight, Tensor):
        weight = w.kept("turned", weight, lambda: weight.t().contiguous())
    else:
        weight = turned(w, Like(out.dtype, shape_of(weight)[::-1]), weight)
    made = w.op("MatMul", out, x, weight)
    return made if bias is None else w.op("Add", out, made, bias)


@operation("addmm", "baddbmm", "addmv")
def _addmm(w: Writer, out: Like, bias: Any, a: Any, b: Any, *, beta: float = 1, alpha: float = 1) -> Value:
    if len(out.shape) == 2:
        return w.op("Gemm", out, a, b, bias, alpha=float(alpha), beta=float(beta))
    made = w.op("MatMul", out, a, b)
    if alpha != 1:
        made = w.op("Mul", out, made, torch.tensor(alpha, dtype=out.dtype))
    return made if beta == 0 else w.op("Add", out, made, bias)


@operation("einsum")
def _einsum(w: Writer, out: Like, equation: str, tensors: Sequence[Any], **_: Any) -> Value:
    return w.op("Einsum", out, *tensors, equation=equation)


@operation("scaled_dot_product_attention")
def _attention(
    w: Writer, out: Like, q: Any, k: Any, v: Any, mask: Any = None, dropout: float = 0.0,
    causal: bool = False,
    *, scale: float | None = None, **_: Any,
) -> Value:  # fmt: skip
    if causal:
        raise NotImplementedError("causal attention without a mask")
    factor = (scale if scale is not None else 1 / math.sqrt(shape_of(q)[-1])) ** 0.5
    q, k = (
        w.op("Mul", Like(out.dtype, shape_of(x)), x, torch.tensor(factor, dtype=out.dtype)) for x in (q, k)
    )
    keys = transposed(w, Like(out.dtype, (*shape_of(k)[:-2], shape_of(k)[-1], shape_of(k)[-2])), k, -1, -2)
    like = Like(out.dtype, (*out.shape[:-1], shape_of(k)[-2]))
    weights = w.op("MatMul", like, q, keys)
    if mask is not None:
        if mask.dtype == torch.bool:
            mask = w.op(
                "Where", Like(out.dtype, shape_of(mask)), mask, torch.tensor(0.0), torch.tensor(-math.inf)
            )
        weights = w.op("Add", like, weights, mask)
    return w.op("MatMul", out, w.op("Softmax", like, weights, axis=-1), v)


def _pairs(x: Any, n: int) -> list[int]:
    return [x] * n if isinstance(x, int) else list(x) * (n if len(x) == 1 else 1)


@operation("conv1d", "conv2d", "conv3d")
def _conv(
    w: Writer, out: Like, x: Any, weight: Any, bias: Any = None, stride: Any = 1, padding: Any = 0,
    dilation: Any = 1, groups: int = 1,
) -> Value:  # fmt: skip
    n = len(out.shape) - 2
    if isinstance(padding, str):
        if padding != "valid":
            raise NotImplementedError(f"padding {padding}")
        padding = 0
    given = [x, weight] if bias is None else [x, weight, bias]
    pads, shape = _pairs(padding, n), list(shape_of(weight)[2:])
    return w.op(
        "Conv", out, *given, kernel_shape=shape, strides=_pairs(stride, n), pads=[*pads, *pads],
        dilations=_pairs(dilation, n), group=groups,
    )  # fmt: skip


@operation("conv_transpose1d", "conv_transpose2d", "conv_transpose3d")
def _conv_transpose(
    w: Writer, out: Like, x: Any, weight: Any, bias: Any = None, stride: Any = 1, padding: Any = 0,
    output_padding: Any = 0, groups: int = 1, dilation: Any = 1,
) -> Value:  # fmt: skip
    n = len(out.shape) - 2
    given = [x, weight] if bias is None else [x, weight, bias]
    pads = _pairs(padding, n)
    return w.op(
        "ConvTranspose", out, *given, kernel_shape=list(shape_of(weight)[2:]), strides=_pairs(stride, n),
        pads=[*pads, *pads], output_padding=_pairs(output_padding, n), dilations=_pairs(dilation, n),
        group=groups,
    )  # fmt: skip


@operation("layer_norm")
def _layer_norm(
    w: Writer,
    out: Like,
    x: Any,
    sizes: Sequence[int],
    weight: Any = None,
    bias: Any = None,
    eps: float = 1e-5,
    *_: Any,
) -> Value:
    scale = torch.ones(*sizes, dtype=out.dtype) if weight is None else weight
    given = [x, scale] if bias is None else [x, scale, bias]
    return w.op("LayerNormalization", out, *given, axis=-len(sizes), epsilon=float(eps))


@operation("group_norm")
def _group_norm(
    w: Writer,
    out: Like,
    x: Any,
    groups: int,
    weight: Any = None,
    bias: Any = None,
    eps: float = 1e-5,
    *_: Any,
) -> Value:
    shape = Like(out.dtype, (None, groups, math.prod(out.shape[1:]) // groups))  # type: ignore[arg-type]
    rows = w.reshape(x, shape)
    one, zero = torch.ones(groups, dtype=out.dtype), torch.zeros(groups, dtype=out.dtype)
    made = w.reshape(w.op("InstanceNormalization", shape, rows, one, zero, epsilon=float(eps)), out)
    wide = (-1, *[1] * (len(out.shape) - 2))
    if weight is not None:
        made = w.op("Mul", out, made, weight.reshape(wide))
    return made if bias is None else w.op("Add", out, made, bias.reshape(wide))


@operation("batch_norm")
def _batch_norm(
    w: Writer, out: Like, x: Any, weight: Any, bias: Any, mean: Any, var: Any, training: bool,
    momentum: float,    eps: float, *_: Any,
) -> Value:  # fmt: skip
    scale = (1.0 if weight is None else weight) / (var + eps).sqrt()
    shift = (0.0 if bias is None else bias) - mean * scale
    wide = (-1, *[1] * (len(out.shape) - 2))
    return w.op("Add", out, w.op("Mul", out, x, scale.reshape(wide)), shift.reshape(wide))


@operation("upsample_nearest2d", "upsample_nearest3d")
def _upsample_nearest(w: Writer, out: Like, x: Any, *_: Any) -> Value:
    how = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    return _resized(w, out, x, how)


@operation("upsample_bilinear2d", "upsample_trilinear3d")
def _upsample_linear(w: Writer, out: Like, x: Any, size: Any, align_corners: bool, *_: Any) -> Value:
    way = "align_corners" if align_corners else "half_pixel"
    return _resized(w, out, x, {"mode": "linear", "coordinate_transformation_mode": way})


def _resized(w: Writer, out: Like, x: Any, how: dict[str, Any]) -> Value:
    pairs = zip(out.shape[2:], shape_of(x)[2:], strict=True)
    scales = torch.tensor([1.0, 1.0, *(after / before for after, before in pairs)])
    (name,) = w.node("Resize", [w.name(x), "", w.name(scales)], **how)
    return Value(name, out.dtype, out.shape)
