"""Operations that move, choose or make numbers, in ONNX; see `onnx_operations`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from caloforge.exports.formats.onnx_operations import END, OPERATIONS, axis_of, numbers, operation, shape_of
from caloforge.exports.formats.writer import Like, Size, Value, Writer

__all__ = ["OPERATIONS"]

MANY = 64
"""Indices along a last axis; ONNX Runtime's Gather takes 8 ns for each number that is moved alone."""


@operation("view", "reshape", "_unsafe_view", "view_as", "reshape_as")
def _view(w: Writer, out: Like, x: Any, sizes: Any) -> Any:
    return w.reshape(x, out, sizes if isinstance(sizes, (list, tuple)) else _all_sizes(w, sizes))


@operation("flatten", "unflatten", "squeeze", "unsqueeze")
def _reshape(w: Writer, out: Like, x: Any, *_: Any) -> Any:
    return w.reshape(x, out, _sizes_like(w, out, x))


def _all_sizes(w: Writer, x: Any) -> list[Any]:
    return [w.size_of(x, i) if n is None else n for i, n in enumerate(shape_of(x))]


def _sizes_like(w: Writer, out: Like, x: Any) -> list[Any]:
    """Sizes of a shape whose free axes are those of x, in their order."""
    free = [n for n in _all_sizes(w, x) if isinstance(n, Size)]
    return [n if n is not None else free.pop(0) for n in out.shape]


@operation("permute")
def _permute(w: Writer, out: Like, x: Any, order: Sequence[int]) -> Value:
    return w.op("Transpose", out, x, perm=[axis_of(d, shape_of(x)) for d in order])


@operation("transpose", "swapaxes")
def transposed(w: Writer, out: Like, x: Any, a: int, b: int) -> Value:
    order = list(range(len(shape_of(x))))
    a, b = axis_of(a, order), axis_of(b, order)
    order[a], order[b] = b, a
    return w.op("Transpose", out, x, perm=order)


@operation("movedim")
def _movedim(w: Writer, out: Like, x: Any, source: Any, target: Any) -> Value:
    order = torch.empty(tuple(range(2, 2 + len(shape_of(x))))).movedim(source, target).shape
    return w.op("Transpose", out, x, perm=[n - 2 for n in order])


@operation("t", "numpy_T", "mT", "adjoint")
def turned(w: Writer, out: Like, x: Any) -> Any:
    n = len(shape_of(x))
    return w.op("Transpose", out, x, perm=list(range(n))[::-1]) if n > 1 else x


@operation("matrix_H")
def _matrix_turned(w: Writer, out: Like, x: Any) -> Any:
    return transposed(w, out, x, -1, -2)


@operation("expand", "expand_as")
def _expand(w: Writer, out: Like, x: Any, sizes: Any, **_: Any) -> Any:
    before = (1,) * (len(out.shape) - len(shape_of(x))) + shape_of(x)
    if before == out.shape and len(out.shape) == len(shape_of(x)):
        return x
    wanted = sizes if isinstance(sizes, (list, tuple)) else _all_sizes(w, sizes)
    return w.op("Expand", out, x, w.sizes([1 if n == -1 else n for n in wanted]))


@operation("repeat", "tile")
def _repeat(w: Writer, out: Like, x: Any, times: Sequence[Any]) -> Value:
    missing = len(times) - len(shape_of(x))
    if missing:
        x = w.reshape(x, Like(out.dtype, (1,) * missing + shape_of(x)))
    return w.op("Tile", out, x, w.sizes(times))


@operation("cat", "concat")
def _cat(w: Writer, out: Like, parts: Sequence[Any], dim: int = 0) -> Any:
    full = [p for p in parts if 0 not in shape_of(p)] or list(parts[:1])
    if len(full) == 1:
        return full[0]
    return w.op("Concat", out, *(w.cast(p, out.dtype) for p in full), axis=axis_of(dim, out.shape))


@operation("stack")
def _stack(w: Writer, out: Like, parts: Sequence[Any], dim: int = 0) -> Value:
    axis = axis_of(dim, out.shape)
    raised = []
    for part in parts:
        shape = (*shape_of(part)[:axis], 1, *shape_of(part)[axis:])
        raised.append(w.op("Unsqueeze", Like(out.dtype, shape), w.cast(part, out.dtype), numbers(axis)))
    return raised[0] if len(raised) == 1 else w.op("Concat", out, *raised, axis=axis)


@operation("split", "split_with_sizes", "chunk", "tensor_split")
def _split(w: Writer, outs: Sequence[Like], x: Any, *args: Any, **kwargs: Any) -> list[Any]:
    if len(outs) == 1:
        return [x]
    axis = axis_of(kwargs.get("dim", args[1] if len(args) > 1 else 0), shape_of(x))
    lengths = [out.shape[axis] for out in outs]
    if None in lengths:
        raise NotImplementedError("parts of a length that hangs on the batch")
    names = w.node("Split", [w.name(x), w.name(numbers(*lengths))], len(outs), axis=axis)  # type: ignore[arg-type]
    return [Value(name, out.dtype, out.shape) for name, out in zip(names, outs, strict=True)]


@operation("unbind")
def _unbind(w: Writer, outs: Sequence[Like], x: Any, dim: int = 0) -> list[Value]:
    return [_select(w, out, x, dim, i) for i, out in enumerate(outs)]


@operation("select")
def _select(w: Writer, out: Like, x: Any, dim: int, index: int) -> Value:
    axis = axis_of(dim, shape_of(x))
    return w.op("Gather", out, x, torch.tensor(index), axis=axis)


@operation("slice", "narrow")
def _slice(
    w: Writer, out: Like, x: Any, dim: int = 0, start: Any = None, end: Any = None, step: int = 1
) -> Any:
    start, end = start or 0, END if end is None else end
    whole = isinstance(start, int) and start == 0 and step == 1
    length = shape_of(x)[dim]
    if whole and isinstance(end, int) and end >= (END if length is None else length):
        return x
    return w.op(
        "Slice", out, x, w.sizes([start]), w.sizes([end]), numbers(axis_of(dim, shape_of(x))), numbers(step)
    )


@operation("flip")
def _flip(w: Writer, out: Like, x: Any, dims: Sequence[int]) -> Value:
    for dim in dims:
        axis = axis_of(dim, out.shape)
        x = w.op("Slice", out, x, numbers(-1), numbers(-(2**62)), numbers(axis), numbers(-1))
    return x  # type: ignore[no-any-return]


@operation("roll")
def _roll(w: Writer, out: Like, x: Any, shifts: Any, dims: Any = ()) -> Value:
    pairs = zip(*([v] if isinstance(v, int) else v for v in (shifts, dims)), strict=True)
    for shift, dim in pairs:
        axis = axis_of(dim, out.shape)
        n = out.shape[axis]
        assert n is not None
        x = w.op("Gather", out, x, (torch.arange(n) - shift) % n, axis=axis)
    return x  # type: ignore[no-any-return]


@operation("pad", "constant_pad_nd")
def _pad(w: Writer, out: Like, x: Any, pads: Sequence[int], mode: Any = "constant", value: Any = None) -> Any:
    if not isinstance(mode, str):
        mode, value = "constant", mode
    pairs = list(zip(pads[::2], pads[1::2], strict=True))[::-1]  # of the last axes, in their order
    first = len(out.shape) - len(pairs)
    if mode == "circular":
        for axis, (before, after) in enumerate(pairs, first):
            n = shape_of(x)[axis]
            if before or after:
                index = torch.arange(-before, n + after) % n
                x = w.op(
                    "Gather",
                    Like(out.dtype, (*shape_of(x)[:axis], len(index), *shape_of(x)[axis + 1 :])),
                    x,
                    index,
                    axis=axis,
                )
        return x
    if mode not in ("constant", "reflect", "replicate"):
        raise NotImplementedError(f"padding {mode}")
    begin = [0] * first + [a for a, _ in pairs]
    end = [0] * first + [b for _, b in pairs]
    filled = [w.cast(value or 0, out.dtype)] if mode == "constant" else []
    return w.op(
        "Pad",
        out,
        w.cast(x, out.dtype),
        numbers(*begin, *end),
        *filled,
        mode={"replicate": "edge"}.get(mode, mode),
    )


# choosing


@operation("index_select")
def _index_select(w: Writer, out: Like, x: Any, dim: int, index: Any) -> Any:
    axis = axis_of(dim, shape_of(x))
    if axis < len(shape_of(x)) - 1 or (isinstance(index, Tensor) and len(index) < MANY):
        return w.op("Gather", out, x, index, axis=axis)
    if axis:
        sizes = [*_all_sizes(w, x)[:-1], *_all_sizes(w, index)]
        index = _expand(w, Like(torch.int64, out.shape), index, sizes)
    return w.op("GatherElements", out, x, index, axis=axis)


@operation("repeat_interleave")
def _repeat_interleave(w: Writer, out: Like, x: Any, times: Any, dim: Any = None, **_: Any) -> Value:
    if not isinstance(times, int) or dim is None or shape_of(x)[axis_of(dim, shape_of(x))] is None:
        raise NotImplementedError("repeat_interleave but for a number of times along an axis of fixed size")
    axis = axis_of(dim, shape_of(x))
    return w.op("Gather", out, x, torch.arange(shape_of(x)[axis]).repeat_interleave(times), axis=axis)


@operation("embedding")
def _embedding(w: Writer, out: Like, table: Any, index: Any, *_: Any) -> Value:
    return w.op("Gather", out, table, index, axis=0)


@operation("take")
def _take(w: Writer, out: Like, x: Any, index: Any) -> Any:
    return _single(w, out, w.reshape(x, Like(out.dtype, (None,))), index)


def _single(w: Writer, out: Like, x: Any, index: Any) -> Any:
    """Numbers of a row at indices (…): one by one, which is slow by Gather, made for pieces."""
    flat = w.reshape(index, Like(torch.int64, (None,)))
    found = w.op("GatherElements", Like(out.dtype, (None,)), x, flat, axis=0)
    return w.reshape(found, out, _all_sizes(w, index))


@operation("gather")
def _gather(w: Writer, out: Like, x: Any, dim: int, index: Any, **_: Any) -> Value:
    return w.op("GatherElements", out, x, index, axis=axis_of(dim, shape_of(x)))


@operation("scatter")
def _scatter(w: Writer, out: Like, x: Any, dim: int, index: Any, source: Any) -> Value:
    if not isinstance(source, (Value, Tensor)):
        source = w.op(
            "Expand",
            Like(out.dtype, shape_of(index)),
            w.cast(source, out.dtype),
            w.sizes(_all_sizes(w, index)),
        )
    return w.op("ScatterElements", out, x, index, source, axis=axis_of(dim, shape_of(x)))


@operation("scatter_add")
def _scatter_add(w: Writer, out: Like, x: Any, dim: int, index: Any, source: Any) -> Value:
    return w.op("ScatterElements", out, x, index, source, axis=axis_of(dim, shape_of(x)), reduction="add")


@operation("index")
def _index(w: Writer, out: Like, x: Any, indices: Sequence[Any]) -> Any:
    used = [(axis, index) for axis, index in enumerate(indices) if index is not None]
    if any(index.dtype == torch.bool for _, index in used):
        raise NotImplementedError("choosing by a mask")
    if len(used) == 1:
        axis, index = used[0]
        if len(shape_of(x)) == 1:
            return _single(w, out, x, index)
        return w.op("Gather", out, x, index, axis=axis)
    first, k = used[0][0], len(used)
    if [axis for axis, _ in used] != list(range(first, first + k)):
        raise NotImplementedError("indices of axes that are not side by side")
    shape = np.broadcast_shapes(*(tuple(7919 if n is None else n for n in shape_of(i)) for _, i in used))
    pairs = _stacked(w, [index for _, index in used], tuple(None if n == 7919 else n for n in shape))
    if first == 0:
        return w.op("GatherND", out, x, pairs)
    rank = len(shape_of(x))
    front = [*range(first, first + k), *range(first), *range(first + k, rank)]
    moved = w.op("Transpose", Like(out.dtype, tuple(shape_of(x)[a] for a in front)), x, perm=front)
    found = w.op("GatherND", Like(out.dtype, (None,) * len(out.shape)), moved, pairs)
    n = len(shape)
    return w.op(
        "Transpose", out, found, perm=[*range(n, n + first), *range(n), *range(n + first, len(out.shape))]
    )


def _stacked(w: Writer, indices: Sequence[Any], shape: tuple[Any, ...]) -> Any:
    """Indices of several axes, as ONNX has them: along a last axis."""
    if all(isinstance(i, Tensor) for i in indices):
        return torch.stack([i.expand(shape) for i in indices], dim=-1)
    if len(indices) == 1 and shape_of(indices[0]) == tuple(shape):
        return w.reshape(indices[0], Like(torch.int64, (*shape, 1)), [*_all_sizes(w, indices[0]), 1])
    sizes: list[Any] = list(shape)
    for index in indices:
        for i, n in enumerate(_all_sizes(w, index), len(shape) - len(shape_of(index))):
            if isinstance(n, Size):
                sizes[i] = n
    wide = [w.op("Expand", Like(torch.int64, shape), i, w.sizes(sizes)) for i in indices]
    return _stack(w, Like(torch.int64, (*shape, len(wide))), wide, -1)


@operation("index_put")
def _index_put(
    w: Writer, out: Like, x: Any, indices: Sequence[Any], values: Any, accumulate: bool = False
) -> Any:
    if any(i is None for i in indices):
        raise NotImplementedError("writing to all of an axis")
    shape = shape_of(indices[0])
    return w.op(
        "ScatterND",
        out,
        x,
        _stacked(w, indices, shape),
        values,
        **({"reduction": "add"} if accumulate else {}),
    )


@operation("index_add", "index_copy")
def _index_add(w: Writer, out: Like, x: Any, dim: int, index: Any, source: Any) -> Value:
    raise NotImplementedError("adding along an index")


@operation("select_scatter")
def _select_scatter(w: Writer, out: Like, x: Any, source: Any, dim: int, index: int) -> Any:
    axis, shape = axis_of(dim, out.shape), list(shape_of(source))
    raised = w.op("Unsqueeze", Like(out.dtype, (*shape[:axis], 1, *shape[axis:])), source, numbers(axis))
    n = out.shape[axis]
    at = index if index >= 0 or n is None else index + n
    return _slice_scatter(w, out, x, raised, axis, at, at + 1)


@operation("slice_scatter")
def _slice_scatter(
    w: Writer, out: Like, x: Any, source: Any, dim: int = 0, start: Any = None, end: Any = None, step: int = 1
) -> Any:
    axis = axis_of(dim, out.shape)
    n = out.shape[axis]
    if n is None:
        if (start or 0) == 0 and step == 1 and (end is None or (isinstance(end, int) and end >= END)):
            return source
        raise NotImplementedError("writing to a part that hangs on the batch")
    first, last, _ = slice(start, end, step).indices(n)
    if step != 1:
        places = torch.arange(first, last, step)
        order = torch.arange(n).index_copy(0, places, n + torch.arange(len(places)))
        both = Like(out.dtype, (*out.shape[:axis], n + len(places), *out.shape[axis + 1 :]))
        return w.op("Gather", out, _cat(w, both, [x, source], axis), order, axis=axis)
    parts = [source]
    for begin, stop, at in ((0, first, 0), (last, n, 2)):
        if begin < stop:
            shape = (*out.shape[:axis], stop - begin, *out.shape[axis + 1 :])
            parts.insert(at, _slice(w, Like(out.dtype, shape), x, axis, begin, stop))
    return _cat(w, out, parts, axis)


@operation("copy")
def _copy(w: Writer, out: Like, x: Any, source: Any, *_: Any) -> Any:
    return _expand(w, out, w.cast(source, out.dtype), x)


@operation("unfold")
def _unfold(w: Writer, out: Like, x: Any, dim: int, size: int, step: int) -> Value:
    axis, rank = axis_of(dim, shape_of(x)), len(shape_of(x))
    n = shape_of(x)[axis]
    windows = torch.arange(0, n - size + 1, step)[:, None] + torch.arange(size)
    order = [*range(axis + 1), *range(axis + 2, rank + 1), axis + 1]
    like = Like(out.dtype, (*shape_of(x)[:axis], *windows.shape, *shape_of(x)[axis + 1 :]))
    return w.op("Transpose", out, w.op("Gather", like, x, windows, axis=axis), perm=order)


# new tensors


@operation("new_zeros", "zeros", "zeros_like", "new_empty", "empty_like")
def _zeros(w: Writer, out: Like, *args: Any, **_: Any) -> Any:
    return _filled(w, out, args, 0)


@operation("new_ones", "ones", "ones_like")
def _ones(w: Writer, out: Like, *args: Any, **_: Any) -> Any:
    return _filled(w, out, args, 1)


@operation("new_full", "full", "full_like")
def _full(w: Writer, out: Like, *args: Any, **_: Any) -> Any:
    return _filled(w, out, args[:-1], args[-1])


def _filled(w: Writer, out: Like, args: Sequence[Any], value: Any) -> Any:
    if None not in out.shape:
        return torch.full(out.shape, value, dtype=out.dtype)  # type: ignore[arg-type]
    lists = [a for a in args if isinstance(a, (list, tuple))]
    sizes = w.sizes(lists[0] if lists else _all_sizes(w, args[0]))
    return w.op("Expand", out, w.cast(value, out.dtype), sizes)


@operation("arange")
def _arange(w: Writer, out: Like, *ends: Any, **_: Any) -> Value:
    start, end, step = (0, *ends, 1) if len(ends) == 1 else (*ends, 1) if len(ends) == 2 else ends
    return w.op("Range", out, *(w.cast(x, torch.int64) for x in (start, end, step)))
