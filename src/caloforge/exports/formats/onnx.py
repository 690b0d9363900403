"""ONNX of an exported program, for run-times from `OLDEST_RUNTIME` on.

Operations are written down one by one. torch's own exporter does this, too; for graphs of ten thousand
operations it takes half an hour where this takes seconds, and it says nothing of how old a run-time may be.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch.fx import Node
from torch.utils._pytree import tree_leaves

from caloforge.errors import ExportError, MissingDependencyError
from caloforge.exports.formats.inlined import inline
from caloforge.exports.formats.loops import LOOP, parts_of
from caloforge.exports.graph import Traced
from caloforge.models.loops import RowLoop

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


def onnx_model(traced: Traced, inputs: Sequence[str], output: str, metadata: Mapping[str, str]) -> bytes:
    """The file of ONNX, weights and metadata inside.

    Raises:
        MissingDependencyError: the packages for it are not installed.
        ExportError: there is an operation that cannot be written, or the file would be larger than 2 GiB.
    """
    try:
        from caloforge.exports.formats.writer import Like, Value, Writer
    except ImportError as error:
        raise MissingDependencyError("onnx", "export") from error
    writer = Writer()
    translation = _Translation(traced.program, writer, traced.loops)
    given = {name: Like.of(value) for name, value in zip(inputs, translation.examples, strict=True)}
    (result,) = translation.results([Value(name, x.dtype, x.shape) for name, x in given.items()])
    model = writer.model(given, {output: result}, OPSET, IR_VERSION, metadata)
    if model.ByteSize() > MOST_BYTES:
        raise ExportError(
            "the weights take more than 2 GiB, which a file of ONNX cannot hold; export a program"
        )
    data: bytes = model.SerializeToString(deterministic=True)
    return data


class _Translation:
    """Goes through the nodes of a program in order; what hangs on no input is computed by torch, once."""

    def __init__(
        self, program: torch.export.ExportedProgram, writer: Any, loops: Mapping[str, Callable[[], RowLoop]]
    ) -> None:
        from caloforge.exports.formats.onnx_products import OPERATIONS
        from caloforge.exports.formats.writer import Like, Size, Value

        inline(program.graph_module)
        self.like, self.size, self.value = Like, Size, Value
        self.operations: Mapping[str, Callable[..., Any]] = OPERATIONS
        self.program, self.writer, self.loops = program, writer, loops
        signature = program.graph_signature
        weights = {**program.state_dict, **program.constants}
        self.weights = {
            name: weights[target].detach()
            for of in (
                signature.inputs_to_parameters,
                signature.inputs_to_buffers,
                signature.inputs_to_lifted_tensor_constants,
            )
            for name, target in of.items()
        }
        self.given = [n for n in program.graph.nodes if n.op == "placeholder" and n.name not in self.weights]
        self.examples = [n.meta["val"] for n in self.given]
        self.computed: dict[Any, tuple[list[Any], Any]] = {}
        self.of: dict[Node, Any] = {}

    def results(self, inputs: Sequence[Any]) -> list[Any]:
        """What the program gives of values, and constants."""
        self.of = dict(zip(self.given, inputs, strict=True))
        for node in self.program.graph.nodes:
            if node.op == "placeholder" and node not in self.of:
                self.of[node] = self.weights[node.name]
            elif node.op == "call_function":
                self.of[node] = self._call(node)
            elif node.op == "output":
                made: list[Any] = self._known(node.args[0])
        return made

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
        if name == LOOP:
            return self._loop(node, *args)
        if not self._hangs_on_inputs([*args, *kwargs.values()]):
            key = node, *(id(x) for x in tree_leaves(args) if isinstance(x, torch.Tensor))
            if key not in self.computed:  # with what it is made of, else another could have its id
                self.computed[key] = args, target(*args, **kwargs)  # type: ignore[operator]
            return self.computed[key][1]
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

    def _loop(self, node: Node, given: list[Any], size: int, name: str) -> Any:
        """The parts of a loop one after the other, or repeated; see `RowLoop.forward`."""
        w, like, whole = self.writer, self.like, self.like(torch.int64, (None,))
        loop = self.loops[name]()
        found = parts_of(loop, [x.meta["val"] for x in node.args[0]])  # type: ignore[union-attr]
        begin, told, step, end, *later = (
            _Translation(program, w, {})
            for program in (found.begin, found.told, found.step, found.end, found.update)
            if program
        )
        chosen, numbers, state = begin.results(given)
        at = w.op("NonZero", like(torch.int64, (2, None)), chosen)
        pairs = w.op("Transpose", like(torch.int64, (None, 2)), at, perm=[1, 0])
        rows = w.op("GatherND", like(numbers.dtype, (None, numbers.shape[2])), numbers, pairs)
        place, shower = (w.op("Gather", whole, at, torch.tensor(i), axis=0) for i in range(2))
        rows = told.results([place, shower, rows])
        since, until = self._bounds(chosen, loop)

        def repeated(turn: Any, state: Any) -> Any:
            for program in later:
                (state,) = program.results([state, turn])
            for j in range(loop.parts):
                at = w.op(
                    "Add", whole, w.op("Mul", whole, turn, torch.tensor([loop.parts])), torch.tensor([j])
                )
                bounds = [w.op("Gather", whole, x, at, axis=0) for x in (since, until)]
                part = [w.op("Slice", like(x.dtype, x.shape), x, *bounds) for x in rows]
                (state,) = step.results([state, turn, *part])
            return state

        if loop.repeated and loop.rounds > 1:
            state = w.loop(loop.rounds, state, repeated)
        else:
            parts = iter(self._split(rows, w.op("Sub", whole, until, since), loop.ends.numel()))
            for turn in torch.arange(loop.rounds)[:, None]:
                for program in later if turn else ():
                    (state,) = program.results([state, turn])
                for _ in range(loop.parts):
                    (state,) = step.results([state, turn, *next(parts)])
        (made,) = end.results([state])
        return made

    def _split(self, rows: list[Any], lengths: Any, n: int) -> Iterator[tuple[Any, ...]]:
        """The n parts of some rows (L, …) each."""
        pieces = [
            [self.value(name, x.dtype, x.shape) for name in self.writer.node("Split", names, n, axis=0)]
            for x, names in ((x, [x.name, lengths.name]) for x in rows)
        ]
        return zip(*pieces, strict=True)

    def _bounds(self, chosen: Any, loop: RowLoop) -> list[Any]:
        """At which of the chosen rows (P, n) each part begins and ends, (rounds · parts,) both."""
        w, like, ends = self.writer, self.like(torch.int64, (None,)), loop.ends.flatten()
        each = w.op("ReduceSum", like, w.cast(chosen, torch.int64), torch.tensor([1]), keepdims=0)
        passed = w.op("CumSum", like, each, torch.tensor(0))
        passed = w.op("Concat", like, torch.zeros(1, dtype=torch.int64), passed, axis=0)
        begins = torch.cat([ends.new_zeros(1), ends[:-1]])
        return [w.op("Gather", like, passed, index, axis=0) for index in (begins, ends)]

    def _size(self, kind: str, args: Sequence[Any]) -> Any:
        """Arithmetic of sizes."""
        if not self._hangs_on_inputs(args):
            raise ExportError("a size that hangs on nothing")
        names = [self.writer.name(x if isinstance(x, self.size) else torch.tensor([x])) for x in args]
        return self.size(self.writer.node(kind, names)[0])
