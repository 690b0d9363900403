"""TorchScript of an exported program: the same operations, which LibTorch of any later version runs."""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence

import torch
from torch.fx import GraphModule, Node
from torch.fx.graph import CodeGen

from caloforge.exports.formats.inlined import inline

__all__ = ["scripted"]

NAMES = {"aten::sym_size": torch.ops.aten.size}
"""What TorchScript has under another name."""


def scripted(program: torch.export.ExportedProgram, inputs: Sequence[str]) -> bytes:
    """The file of TorchScript whose inputs have these names."""
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
            node.args = (node.args[0][0],)
        elif isinstance(node.target, torch._ops.OpOverload):
            node.target = NAMES.get(node.target._schema.name, node.target.overloadpacket)
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch says that it will have other ways
        torch.jit.save(torch.jit.script(GraphModule(module, graph)), file)
    return file.getvalue()


def _checks(node: Node) -> bool:
    """True for what only checks shapes."""
    if node.op == "call_module":
        return str(node.target).startswith("_guards")
    return isinstance(node.target, torch._ops.OpOverload) and "_assert" in node.target._schema.name
