"""The compiled kernel of autoregressive flows: weights packed for it, rows handed to it.

A whole flow, all blocks and both directions, is one call. See autoregressive.c for how it works.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from caloforge.models.networks.autoregressive.block import MaskedSplines
from caloforge.models.networks.splines.kernel import FOLDER
from caloforge.models.networks.tensor_cache import TensorCache
from caloforge.runtime.compiled import REALS, compiled, in_threads, multiplies_bf16, traced

__all__ = ["FlowKernel", "flow_library"]

SOURCE = Path(__file__).with_name("autoregressive.c")
FEW_ROWS = 64
"""Rows of which a thread is not worth its start."""
_Pointers = ctypes.POINTER(ctypes.c_void_p)
_Integers = ctypes.POINTER(ctypes.c_int64)


def flow_library(dtype: torch.dtype, bf16: bool) -> ctypes.CDLL | None:
    """The kernel for x of a type with networks in bfloat16 or in that type; None where it cannot be had."""
    if bf16 and not (dtype == torch.float32 and multiplies_bf16()):
        return None
    return compiled(SOURCE, FOLDER, REALS[dtype], f"-DBF16={int(bf16)}")


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
    """The weights and orders of blocks as one of the libraries reads them."""

    def __init__(self, library: ctypes.CDLL, blocks: list[MaskedSplines], orders: Tensor) -> None:
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
        self.orders = orders.contiguous()
        self.orders_reversed = orders.flip(0).contiguous()


class FlowKernel:
    """Runs one flow in compiled code; its packed weights are kept, see `TensorCache`."""

    def __init__(self) -> None:
        self._packed: TensorCache[_Packed] = TensorCache()

    def run(
        self,
        blocks: list[MaskedSplines],
        orders: Tensor,
        x: Tensor,
        context: Tensor | None,
        bf16: bool,
        inverse: bool,
        sequential: bool,
    ) -> tuple[Tensor, Tensor] | None:
        """Images (n, D) of x (n, D) and log-determinants (n,); None where plain torch has to do it.

        Args:
            blocks, orders: of the flow, from data to noise, (blocks, D).
            x, context: (n, D) and (n, C).
            bf16: networks in bfloat16.
            inverse: from noise to data.
            sequential: the networks read what their splines give.
        """
        parameters = [p for block in blocks for p in block.parameters()]
        if not _possible(blocks[0], parameters, x, context):
            return None
        library = flow_library(x.dtype, bf16)
        if library is None:
            return None
        packed = self._packed(
            (x.dtype, bf16), [orders, *parameters], lambda: _Packed(library, blocks, orders)
        )
        return _run(packed, blocks[0], x, context, inverse, sequential)


def _possible(block: MaskedSplines, parameters: Sequence[Tensor], x: Tensor, context: Tensor | None) -> bool:
    tensors = [x, block.weight] if context is None else [x, block.weight, context]
    return (
        x.device.type == "cpu"
        and x.dtype in REALS
        and all(t.dtype == x.dtype and t.device == x.device for t in tensors)
        and not (torch.is_grad_enabled() and any(t.requires_grad for t in (*tensors, *parameters)))
        and not (block.training and block.dropout.p > 0)
        and not traced()
    )


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
    packed: _Packed, block: MaskedSplines, x: Tensor, context: Tensor | None, inverse: bool, sequential: bool
) -> tuple[Tensor, Tensor]:
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
        sequential,
    )
    x = x.detach().contiguous()
    given = x if context is None else context.detach().expand(len(x), -1).contiguous()
    y, log_det = torch.empty_like(x), x.new_empty(len(x))

    def rows(begin: int, end: int) -> None:
        no_memory = packed.library.run(
            ctypes.byref(described),
            ctypes.c_int64(end - begin),
            *(ctypes.c_void_p(t[begin:end].data_ptr()) for t in (x, given, y, log_det)),
        )
        if no_memory:
            raise MemoryError(f"not enough memory for {end - begin} rows of {x.shape[1]} numbers in a flow")

    in_threads(rows, len(x), FEW_ROWS)
    return y, log_det
