"""TorchScript of an exported program: the same operations, which LibTorch of any later version runs."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import nn
from torch.fx import GraphModule, Node
from torch.fx.graph import CodeGen

from caloforge.exports.formats.inlined import inline
from caloforge.exports.formats.loops import LOOP, Parts, parts_of
from caloforge.exports.graph import Traced
from caloforge.models.loops import RowLoop

__all__ = ["scripted"]

LOOP_SOURCE = """
def forward(self, {given}):
    chosen, numbers, state = self.begin({given})
    at = chosen.nonzero()
    place, shower = at[:, 0], at[:, 1]
    {told}, = self.told(place, shower, numbers[place, shower])
    passed = torch.cat([place.new_zeros([1]), chosen.sum(dim=1).cumsum(dim=0)])
    ends = passed[self.ends]
    begin = 0
    for i in range({rounds}):
        turn = torch.full([1], i, dtype=torch.int64)
        {update}
        for j in range({parts}):
            end = int(ends[i * {parts} + j])
            state = self.step(state, turn, {some})
            begin = end
    return self.end(state)
"""
UPDATE = "state = self.update(state, turn) if i > 0 else state"
NAMES = {"aten::sym_size": torch.ops.aten.size}
"""What TorchScript has under another name."""


def scripted(traced: Traced, inputs: Sequence[str]) -> bytes:
    """The file of TorchScript whose inputs have these names."""
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch says that it will have other ways
        torch.jit.save(_module(traced.program, inputs, traced.loops), file)
    return file.getvalue()


def _module(
    program: torch.export.ExportedProgram, inputs: Sequence[str], loops: Mapping[str, Callable[[], RowLoop]]
) -> torch.jit.ScriptModule:
    module = program.module()
    assert isinstance(module, GraphModule)
    inline(module)
    graph = module.graph
    graph.set_codegen(CodeGen())
    names = iter(inputs)
    for node in list(graph.nodes):
        if node.op == "placeholder":
            node.target = node.name = next(names)
        elif _checks(node):
            graph.erase_node(node)
        elif node.op == "output":
            node.args = (node.args[0][0] if len(node.args[0]) == 1 else tuple(node.args[0]),)
        elif isinstance(node.target, torch._ops.OpOverload):
            if node.target._schema.name == LOOP:
                given, _, name = node.args
                module.add_submodule(name, _loop(parts_of(loops[name](), [x.meta["val"] for x in given])))
                node.op, node.target, node.args = "call_module", name, tuple(given)
            else:
                node.target = NAMES.get(node.target._schema.name, node.target.overloadpacket)
    made: torch.jit.ScriptModule = torch.jit.script(GraphModule(module, graph))
    return made


def _loop(parts: Parts) -> torch.jit.ScriptModule:
    """See `RowLoop.forward`."""
    loop, inputs = nn.Module(), {}
    for name in ("begin", "told", "update", "step", "end"):
        program = getattr(parts, name)
        if program is not None:
            inputs[name] = [f"x_{i}" for i in range(len(program.graph_signature.user_inputs))]
            loop.add_module(name, _module(program, inputs[name], {}))
    loop.register_buffer("ends", parts.loop.ends.flatten())
    told = [f"told_{i}" for i in range(len(inputs["step"]) - 2)]
    source = LOOP_SOURCE.format(
        given=", ".join(inputs["begin"]),
        told=", ".join(told),
        some=", ".join(f"{x}[begin:end]" for x in told),
        update=UPDATE if "update" in inputs else "",
        rounds=parts.loop.rounds,
        parts=parts.loop.parts,
    )
    made: torch.jit.ScriptModule = torch.jit.script(loop)
    made.define(source)
    return made


def _checks(node: Node) -> bool:
    """True for what only checks shapes."""
    if node.op == "call_module":
        return str(node.target).startswith("_guards")
    return isinstance(node.target, torch._ops.OpOverload) and "_assert" in node.target._schema.name
