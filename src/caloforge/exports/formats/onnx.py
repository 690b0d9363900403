"""ONNX of an exported program, for run-times from `OLDEST_RUNTIME` on.

Operations are written down one by one. torch's own exporter does this, too; for graphs of ten thousand
operations it takes half an hour where this takes seconds, and it says nothing of how old a run-time may be.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.fx import Node

from caloforge.errors import ExportError, MissingDependencyError
from caloforge.exports.formats.inlined import inline

__all__ = ["OLDEST_RUNTIME", "OPSET", "onnx_model"]

OPSET = 18
IR_VERSION = 8
OLDEST_RUNTIME = "1.14"
"""ONNX Runtime that has this opset and this version of the format."""
MOST_BYTES = 2**31 - 1
"""Of a file of ONNX, which is a message of protobuf."""
SIZES: dict[Any, str] = {
    operator.mul: "Mul",
    operator.add: "Add",
    operator.sub: "Sub",
    operator.floordiv: "Div",
}


def onnx_model(
    program: torch.export.ExportedProgram, inputs: Sequence[str], output: str, metadata: Mapping[str, str]
) -> bytes:
    """The file of ONNX, weights and metadata inside.

    Raises:
        MissingDependencyError: the packages for it are not installed.
        ExportError: there is an operation that cannot be written, or the file would be larger than 2 GiB.
    """
    try:
        from caloforge.exports.formats.writer import Like, Writer
    except ImportError as error:
        raise MissingDependencyError("onnx", "export") from error
    inline(program.graph_module)
    writer = Writer()
    translation = _Translation(program, writer, inputs)
    for node in program.graph.nodes:
        translation.take(node)
    given = {name: Like(value.dtype, value.shape) for name, value in translation.inputs.items()}
    model = writer.model(given, {output: translation.result}, OPSET, IR_VERSION, metadata)
    if model.ByteSize() > MOST_BYTES:
        raise ExportError(
            "the weights take more than 2 GiB, which a file of ONNX cannot hold; export a program"
        )
    data: bytes = model.SerializeToString(deterministic=True)
    return data


class _Translation:
    """Goes through the nodes of a program in order; what hangs on no input is computed by torch."""

    def __init__(self, program: torch.export.ExportedProgram, writer: Any, inputs: Sequence[str]) -> None:
        from caloforge.exports.formats.onnx_products import OPERATIONS
        from caloforge.exports.formats.writer import Like, Size, Value

        self.like, self.size, self.value = Like, Size, Value
        self.operations: Mapping[str, Callable[..., Any]] = OPERATIONS
        self.writer, self.names = writer, iter(inputs)
        signature = program.graph_signature
        weights = {**program.state_dict, **program.constants}
        self.weights = {
            name: weights[target]
            for of in (
                signature.inputs_to_parameters,
                signature.inputs_to_buffers,
                signature.inputs_to_lifted_tensor_constants,
            )
            for name, target in of.items()
        }
        self.of: dict[Node, Any] = {}
        self.inputs: dict[str, Any] = {}
        self.result: Any = None

    def take(self, node: Node) -> None:
        """Translate one node."""
        if node.op == "placeholder":
            if node.name in self.weights:
                self.of[node] = self.weights[node.name].detach()
                return
            name, like = next(self.names), self.like.of(node.meta["val"])
            self.of[node] = self.inputs[name] = self.value(name, like.dtype, like.shape)
        elif node.op == "output":
            (self.result,) = self._known(node.args[0])
        elif node.op == "call_function":
            self.of[node] = self._call(node)

    def _known(self, x: Any) -> Any:
        if isinstance(x, (list, tuple)):
            return [self._known(y) for y in x]
        return self.of[x] if isinstance(x, Node) else x

    def _call(self, node: Node) -> Any:
        args, target = self._known(list(node.args)), node.target
        kwargs = {key: self._known(x) for key, x in node.kwargs.items()}
        if target is operator.getitem:
            return args[0][args[1]]
        if target in SIZES:
            return self._size(SIZES[target], args)
        name = target._schema.name.removeprefix("aten::") if hasattr(target, "_schema") else str(target)
        if "assert" in name or name in ("sym_constrain_range", "sym_constrain_range_for_size"):
            return None
        if not self._hangs_on_inputs([*args, *kwargs.values()]):
            return target(*args, **kwargs)  # type: ignore[operator]
        if name == "sym_size":
            return self.writer.size_of(args[0], args[1])
        outs = node.meta["val"]
        like = [self.like.of(o) for o in outs] if isinstance(outs, (list, tuple)) else self.like.of(outs)
        kwargs = {
            key: x for key, x in kwargs.items() if key not in ("dtype", "layout", "device", "pin_memory")
        }
        try:
            return self.operations[name](self.writer, like, *args, **kwargs)
        except (KeyError, NotImplementedError) as error:
            raise ExportError(
                f"the model cannot be written as ONNX: {target} ({error}); export it with "
                "--to torchscript or program"
            ) from error

    def _hangs_on_inputs(self, xs: Sequence[Any]) -> bool:
        return any(
            self._hangs_on_inputs(x) if isinstance(x, list) else isinstance(x, (self.value, self.size))
            for x in xs
        )

    def _size(self, kind: str, args: Sequence[Any]) -> Any:
        """Arithmetic of sizes."""
        if not self._hangs_on_inputs(args):
            raise ExportError("a size that hangs on nothing")
        names = [self.writer.name(x if isinstance(x, self.size) else torch.tensor([x])) for x in args]
        return self.size(self.writer.node(kind, names)[0])
