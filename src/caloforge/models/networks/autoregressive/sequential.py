"""Spline by spline through a `MaskedSplines` whose network reads what its own splines give.

The obvious way repeats the whole network once for each dimension. Here everything is computed once: units
stand in the order of their degrees, so that when dimension d is known only the units of degree d + 1 and the
spline of dimension d + 1 are new. All D steps together multiply half of the matrices' elements, those that
the masks keep, which is half of what a dense pass does.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from caloforge.models.networks.autoregressive.block import MaskedSplines

__all__ = ["sequential"]


def sequential(
    block: MaskedSplines, values: Tensor, context: Tensor | None, bf16: bool, inverse: bool, slopes: bool
) -> tuple[Tensor, Tensor | None]:
    """Images (D, n) of values (D, n) and, with ``slopes``, log-slopes (D, n); the network reads the images.

    Plain torch operations that work on every device and can be differentiated.
    """
    dtype = torch.bfloat16 if bf16 else values.dtype
    n, ends = values.shape[1], block.ends
    enter = block.enter.weight.to(dtype)
    hidden = [(layer.weight.to(dtype), layer.bias.to(dtype)) for layer in block.hidden_layers()]
    # (D, Q, H): the rows of one dimension follow each other
    out = block.weight.view(block.n_parameters, block.dims, -1).transpose(0, 1).to(dtype)
    bias = block.bias.view(block.n_parameters, block.dims, 1)
    base = block.enter.bias.to(dtype)[:, None].expand(-1, n)
    if block.context is not None:
        assert context is not None
        base = base + block.context.weight.to(dtype) @ context.T.to(dtype)

    known = base.new_empty(0, n)
    layers = [base.new_empty(0, n) for _ in range(1 + len(hidden))]
    images: list[Tensor] = []
    logs: list[Tensor] = []
    for d in range(block.dims):
        new = slice(ends[d - 1] if d else 0, ends[d])  # units of degree d
        if new.stop > new.start:
            h = _activate(block.dropout, torch.addmm(base[new], enter[new, :d], known) if d else base[new])
            layers[0] = torch.cat([layers[0], h])
            for i, (weight, b) in enumerate(hidden):
                h = _activate(block.dropout, torch.addmm(b[new, None], weight[new, : ends[d]], layers[i]))
                layers[i + 1] = torch.cat([layers[i + 1], h])
        raw = out[d, :, : ends[d]] @ layers[-1] + bias[:, d]  # in the precision of the latter
        image, slope = block.splines(values[d], raw, inverse=inverse, slopes=slopes)
        known = torch.cat([known, image[None].to(dtype)])
        images.append(image)
        if slope is not None:
            logs.append(slope)
    return torch.stack(images), torch.stack(logs) if slopes else None


def _activate(dropout: nn.Module, h: Tensor) -> Tensor:
    activated: Tensor = dropout(F.relu(h))
    return activated
