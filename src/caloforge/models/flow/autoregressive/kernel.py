"""The compiled kernel of autoregressive flows: weights packed for it, rows handed to it.

A whole flow, all blocks and both directions, is one call. See autoregressive.c for how it works.
"""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from caloforge.models.flow.splines.kernel import FOLDER
from caloforge.runtime.compiled import REALS, compiled, in_threads, multiplies_bf16, traced

if TYPE_CHECKING:
    from caloforge.models.flow.autoregressive.flow import AutoregressiveFlow, MaskedSplines

__all__ = ["FlowKernel", "kernel_name"]

SOURCE = Path(__file__).with_name("autoregressive.c")
FEW_ROWS = 64
"""Rows of which a thread is not worth its start."""
_Pointers = ctypes.POINTER(ctypes.c_void_p)
_Integers = ctypes.POINTER(ctypes.c_int64)


def kernel_name() -> str:
    """How autoregressive flows are computed on a CPU, for provenance: "compiled" or "plain"."""
    library = compiled(SOURCE, FOLDER, REALS[torch.float32], "-DBF16=0")
    return "plain" if library is None else "compiled"


class _Sizes(ctypes.Structure):
    _fields_ = (
        ("dims", ctypes.c_int64),
        ("context", ctypes.c_int64),
        ("units", ctypes.c_int64),
        ("layers", ctypes.c_int64),
        ("bins", ctypes.c_int64),
        ("ends", ctypes.c_void_p),
    )


class _Flow(ctypes.Structure):
    _fields_ = (
        ("sizes", _Sizes),
        ("blocks", ctypes.c_int64),
        ("packed", _Pointers),
        ("orders", ctypes.c_void_p),
        ("bound", ctypes.c_double),
        ("largest", ctypes.c_double),
        ("inverse", ctypes.c_int64),
        ("sequential", ctypes.c_int64),
    )


class _Packed:
    """A flow's weights as one of the libraries reads them, and what tells whether they are still the same."""

    def __init__(self, library: ctypes.CDLL, flow: AutoregressiveFlow) -> None:
        blocks = flow.masked_splines()
        self.library = library
        self.sizes, self.ends = _sizes(blocks[0])
        library.packed_bytes.restype = ctypes.c_int64
        size = library.packed_bytes(ctypes.byref(self.sizes))
        self.memory = [torch.empty(size + 64, dtype=torch.uint8) for _ in blocks]
        self.places = [-(-memory.data_ptr() // 64) * 64 for memory in self.memory]
        for block, place in zip(blocks, self.places, strict=True):
            weights, biases = _parameters(block)
            library.pack(
                ctypes.byref(self.sizes), _pointers(weights), _pointers(biases), ctypes.c_void_p(place)
            )
        self.orders = flow.orders.contiguous()
        self.orders_reversed = flow.orders.flip(0).contiguous()
        # aliases keep the memory of the parameters from being used for others at the same address
        self.parameters = [p.detach() for p in flow.parameters()]
        self.state = _state(flow)


class FlowKernel:
    """Runs one flow in compiled code; keeps its packed weights for as long as its parameters stay the same.

    Parameters that are changed in place through ``.data`` look unchanged to torch and so to this class.
    """

    def __init__(self) -> None:
        self._packed: dict[tuple[str, ...], _Packed] = {}

    def __reduce__(self) -> tuple[type[FlowKernel], tuple[()]]:
        return FlowKernel, ()  # copies of a flow pack for themselves

    def run(
        self, flow: AutoregressiveFlow, x: Tensor, context: Tensor | None, low_precision: bool, inverse: bool
    ) -> tuple[Tensor, Tensor] | None:
        """Images (n, D) of x (n, D) and log-determinants (n,); None where plain torch has to do it."""
        if not _possible(flow, x, context):
            return None
        bf16 = low_precision and x.dtype == torch.float32 and multiplies_bf16()
        definitions = (REALS[x.dtype], f"-DBF16={int(bf16)}")
        library = compiled(SOURCE, FOLDER, *definitions)
        if library is None:
            return None
        packed = self._packed.get(definitions)
        if packed is None or packed.state is None or packed.state != _state(flow):
            packed = self._packed[definitions] = _Packed(library, flow)
        return _run(packed, flow, x, context, inverse)


def _possible(flow: AutoregressiveFlow, x: Tensor, context: Tensor | None) -> bool:
    blocks = flow.masked_splines()
    first = blocks[0].weight
    tensors = [x, first] if context is None else [x, first, context]
    return (
        x.device.type == "cpu"
        and x.dtype in REALS
        and all(t.dtype == x.dtype and t.device == x.device for t in tensors)
        and not (torch.is_grad_enabled() and any(t.requires_grad for t in (*tensors, *flow.parameters())))
        and not (flow.training and blocks[0].dropout.p > 0)
        and not traced()
    )


def _state(flow: AutoregressiveFlow) -> list[tuple[int, int]] | None:
    tensors = [flow.orders, *flow.parameters()]
    if any(t.is_inference() for t in tensors):
        return None  # such tensors do not count their changes
    return [(t.data_ptr(), t._version) for t in tensors]


def _sizes(block: MaskedSplines) -> tuple[_Sizes, Tensor]:
    ends = torch.tensor(block.ends, dtype=torch.int64)
    context = 0 if block.context is None else block.context.in_features
    layers = 1 + len(block.hidden)
    sizes = _Sizes(block.dims, context, len(block.degrees), layers, block.bins, ends.data_ptr())
    return sizes, ends


def _parameters(block: MaskedSplines) -> tuple[list[Tensor], list[Tensor]]:
    """Weights and biases of a block as `pack` wants them."""
    context = torch.empty(0) if block.context is None else block.context.weight
    hidden = block.hidden_layers()
    weights = [block.enter.weight, context, block.weight, *(layer.weight for layer in hidden)]
    biases = [block.enter.bias, block.bias, *(layer.bias for layer in hidden)]
    return [w.detach().contiguous() for w in weights], [b.detach().contiguous() for b in biases]


def _pointers(tensors: list[Tensor]) -> ctypes.Array[ctypes.c_void_p]:
    return (ctypes.c_void_p * len(tensors))(*(t.data_ptr() for t in tensors))


def _run(
    packed: _Packed, flow: AutoregressiveFlow, x: Tensor, context: Tensor | None, inverse: bool
) -> tuple[Tensor, Tensor]:
    block = flow.masked_splines()[0]
    places = packed.places[::-1] if inverse else packed.places
    orders = packed.orders_reversed if inverse else packed.orders
    described = _Flow(
        packed.sizes,
        len(places),
        (ctypes.c_void_p * len(places))(*places),
        orders.data_ptr(),
        block.bound,
        block.largest_logit,
        inverse,
        inverse == (flow.direction == "density"),
    )
    x = x.detach().contiguous()
    given = x if context is None else context.detach().expand(len(x), -1).contiguous()
    y, log_det = torch.empty_like(x), x.new_empty(len(x))

    def rows(begin: int, end: int) -> None:
        packed.library.run(
            ctypes.byref(described),
            ctypes.c_int64(end - begin),
            *(ctypes.c_void_p(t[begin:end].data_ptr()) for t in (x, given, y, log_det)),
        )

    in_threads(rows, len(x), FEW_ROWS)
    return y, log_det
