"""Regions of a graph, such as those that are never in bfloat16, put in their places in it."""

from __future__ import annotations

import operator

from torch.fx import GraphModule, Node
from torch.utils._pytree import tree_leaves

__all__ = ["inline"]


def inline(module: GraphModule) -> None:
    """Put the operations of all regions where they are called; what wraps them has no effect here."""
    graph, regions = module.graph, [node for node in module.graph.nodes if _is_region(node)]
    for node in regions:
        at = next(i for i, x in enumerate(node.args) if isinstance(x, Node) and x.op == "get_attr")
        held = node.args[at]
        assert isinstance(held, Node)
        region = module.get_submodule(str(held.target))
        assert isinstance(region, GraphModule)
        inline(region)
        given = [n for n in region.graph.nodes if n.op == "placeholder"]
        values = dict(zip(given, node.args[at + 1 :], strict=True))
        with graph.inserting_before(node):
            made = graph.graph_copy(region.graph, values)
        results = tree_leaves(made)
        for user in list(node.users):
            assert user.target is operator.getitem
            user.replace_all_uses_with(results[user.args[1]])
            graph.erase_node(user)
        graph.erase_node(node)
        if not held.users:
            graph.erase_node(held)


def _is_region(node: Node) -> bool:
    return node.op == "call_function" and str(node.target).startswith("wrap_with_")
