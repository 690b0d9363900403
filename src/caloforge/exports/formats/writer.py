"""A graph of ONNX while it is written: nodes, constants, and shapes that hang on the batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import onnx
import torch
from onnx import TensorProto, helper
from torch import Tensor

__all__ = ["Like", "Size", "Value", "Writer"]

TYPES = {
    torch.float32: TensorProto.FLOAT,
    torch.float64: TensorProto.DOUBLE,
    torch.int64: TensorProto.INT64,
    torch.int32: TensorProto.INT32,
    torch.uint8: TensorProto.UINT8,
    torch.int16: TensorProto.INT16,
    torch.bool: TensorProto.BOOL,
}
Shape = tuple[int | None, ...]
"""None for what hangs on the batch."""


@dataclass(frozen=True)
class Value:
    """A tensor that is computed: its name in the graph, type and shape."""

    name: str
    dtype: torch.dtype
    shape: Shape = ()


@dataclass(frozen=True)
class Size:
    """A whole number that hangs on the batch: the name of a tensor (1,) of int64."""

    name: str


@dataclass(frozen=True)
class Like:
    """What an operation gives: type and shape."""

    dtype: torch.dtype
    shape: Shape

    @classmethod
    def of(cls, tensor: Tensor) -> Like:
        """Of a tensor that torch has traced."""
        return cls(tensor.dtype, tuple(n if isinstance(n, int) else None for n in tensor.shape))


class Writer:
    """Collects the nodes of a graph.

    Attributes:
        nodes: so far.
        constants: tensors by name.
    """

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, Tensor] = {}
        self._known: dict[Any, str] = {}
        self._sizes: dict[tuple[str, int], Size] = {}
        self._made: dict[Any, Tensor] = {}
        self._reshaped: dict[Value, Value] = {}
        self._held: list[Tensor] = []
        self._n = 0

    def _new(self) -> str:
        self._n += 1
        return f"v{self._n}"

    def node(self, kind: str, inputs: Sequence[str], n: int = 1, **attributes: Any) -> list[str]:
        """Append an operation with n outputs, whose names are returned."""
        names = [self._new() for _ in range(n)]
        self.nodes.append(helper.make_node(kind, list(inputs), names, **attributes))
        return names

    def op(self, kind: str, out: Like, *inputs: Any, **attributes: Any) -> Value:
        """Append an operation on values, constants and numbers, whose types are right already."""
        (name,) = self.node(kind, [self.name(x) for x in inputs], **attributes)
        return Value(name, out.dtype, out.shape)

    def name(self, x: Any) -> str:
        """The name of a value; of constants that of a new tensor, equal small ones once."""
        if isinstance(x, (Value, Size)):
            return x.name
        tensor = x if isinstance(x, Tensor) else torch.tensor(x)
        key: Any = (
            id(tensor)
            if tensor.numel() > 64
            else (str(tensor.dtype), tuple(tensor.shape), str(tensor.tolist()))
        )
        if key not in self._known:
            self._known[key] = self._new()
            self.constants[self._known[key]] = tensor.detach().contiguous()
            self._held.append(tensor)  # else another could have its id
        return self._known[key]

    def kept(self, what: str, of: Tensor, make: Callable[[], Tensor]) -> Tensor:
        """A constant that is made once of another."""
        key = what, id(of)
        if key not in self._made:
            self._made[key] = make()
            self._held.append(of)  # else another could have its id
        return self._made[key]

    def cast(self, x: Any, dtype: torch.dtype) -> Any:
        """The same as another type: value, constant, number or size (as a scalar)."""
        if isinstance(x, Size):
            (x_name,) = self.node("Squeeze", [x.name, self.name(torch.tensor([0]))])
            x = Value(x_name, torch.int64, ())
        if isinstance(x, Value):
            if x.dtype == dtype:
                return x
            return self.op("Cast", Like(dtype, x.shape), x, to=TYPES[dtype])
        if isinstance(x, Tensor):
            return x if x.dtype == dtype else x.to(dtype)
        return torch.tensor(x, dtype=dtype)

    def common(self, *xs: Any) -> torch.dtype:
        """The type that torch gives an operation on these."""
        return torch.result_type(*(_stand_in(x) for x in xs))

    def sizes(self, sizes: Sequence[Any]) -> Any:
        """A shape of numbers and sizes, as a constant or a value (k,)."""
        if all(isinstance(n, int) for n in sizes):
            return torch.tensor(list(sizes), dtype=torch.int64)
        parts = [n.name if isinstance(n, Size) else self.name(torch.tensor([n])) for n in sizes]
        name = parts[0] if len(parts) == 1 else self.node("Concat", parts, axis=0)[0]
        return Value(name, torch.int64, (len(parts),))

    def size_of(self, x: Value, axis: int) -> Size:
        """How long a value is along an axis."""
        key = (x.name, axis)
        if key not in self._sizes:
            self._sizes[key] = Size(self.node("Shape", [x.name], start=axis, end=axis + 1)[0])
        return self._sizes[key]

    def loop(self, times: int, state: Value, body: Callable[[Value, Value], Value]) -> Value:
        """The state after so many times ``body(number of the time (1,), state)``."""
        nodes, sizes = self.nodes, dict(self._sizes)
        self.nodes = []
        count, go, before = Value(self._new(), torch.int64, ()), self._new(), self._new()
        number = self.reshape(count, Like(torch.int64, (1,)))
        after = body(number, Value(before, state.dtype, state.shape))
        (goes,) = self.node("Identity", [go])
        inside, self.nodes, self._sizes = self.nodes, nodes, sizes
        described = [
            _described(count.name, Like(count.dtype, ())),
            _described(go, Like(torch.bool, ())),
            _described(before, Like(state.dtype, state.shape)),
        ]
        results = [
            _described(goes, Like(torch.bool, ())),
            _described(after.name, Like(after.dtype, after.shape)),
        ]
        inside = _needed(inside, [goes, after.name])
        graph = helper.make_graph(inside, "body", described, results)
        (name,) = self.node("Loop", [self.name(torch.tensor(times)), "", state.name], body=graph)
        return Value(name, state.dtype, state.shape)

    def reshape(self, x: Any, out: Like, sizes: Sequence[Any] = ()) -> Any:
        """The numbers in another shape; ``sizes`` where more than one hangs on the batch."""
        x = self._reshaped.get(x, x) if isinstance(x, Value) else x
        free = [i for i, n in enumerate(out.shape) if n is None]
        if len(free) <= 1 and 0 not in out.shape:
            if isinstance(x, Value) and x.shape == out.shape:
                return x
            shape: Any = torch.tensor([-1 if n is None else n for n in out.shape], dtype=torch.int64)
        else:
            shape = self.sizes(sizes)
        made = self.op(
            "Reshape", out, x, shape, **({} if len(free) <= 1 and 0 not in out.shape else {"allowzero": 1})
        )
        if isinstance(x, Value):
            self._reshaped[made] = x
        return made

    def model(
        self,
        inputs: Mapping[str, Like],
        outputs: Mapping[str, Value],
        opset: int,
        ir_version: int,
        metadata: Mapping[str, str],
    ) -> onnx.ModelProto:
        """The finished model; only constants that are used are in it."""
        for name, value in outputs.items():
            self.nodes.append(helper.make_node("Identity", [value.name], [name]))
        nodes = _needed(self.nodes, list(outputs))
        read = {name for node in nodes for name in _reads(node)}
        tensors = []
        for name, x in self.constants.items():
            if name not in read:
                continue
            stored, kept = name, _short(x)
            if kept.dtype != x.dtype:
                stored = self._new()
                nodes.insert(0, helper.make_node("Cast", [stored], [name], to=TYPES[x.dtype]))
            data = kept.cpu().numpy().tobytes()
            tensors.append(helper.make_tensor(stored, TYPES[kept.dtype], kept.shape, data, raw=True))
        graph = helper.make_graph(
            nodes,
            "caloforge",
            [_described(name, like) for name, like in inputs.items()],
            [_described(name, Like(value.dtype, value.shape)) for name, value in outputs.items()],
            tensors,
        )
        made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
        made.ir_version = ir_version
        helper.set_model_props(made, dict(metadata))
        return made


def _short(x: Tensor) -> Tensor:
    """Tables of indices, most of a tree's file, in as few bytes as hold them; run-times widen them once."""
    if x.dtype != torch.int64 or x.numel() <= 64:
        return x
    low, high = int(x.min()), int(x.max())
    for dtype in (torch.int16, torch.int32):
        if torch.iinfo(dtype).min <= low and high <= torch.iinfo(dtype).max:
            return x.to(dtype)
    return x


def _needed(nodes: Sequence[onnx.NodeProto], results: Sequence[str]) -> list[onnx.NodeProto]:
    """The nodes on which results hang, in their order."""
    wanted, kept = set(results), []
    for node in reversed(nodes):
        if wanted.intersection(node.output):
            kept.append(node)
            wanted.update(_reads(node))
    return kept[::-1]


def _reads(node: onnx.NodeProto) -> set[str]:
    """Names that a node reads, those of loops within it, too."""
    bodies = [a.g.node for a in node.attribute if a.type == onnx.AttributeProto.GRAPH]
    return set(node.input).union(*(_reads(inner) for body in bodies for inner in body))


def _described(name: str, like: Like) -> onnx.ValueInfoProto:
    shape = ["batch" if n is None else n for n in like.shape]
    return helper.make_tensor_value_info(name, TYPES[like.dtype], shape)


def _stand_in(x: Any) -> Any:
    if isinstance(x, Value):
        return torch.empty((1,) * len(x.shape), dtype=x.dtype)
    return 1 if isinstance(x, Size) else x
