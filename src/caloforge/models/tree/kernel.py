"""The compiled kernel of halvings: weights packed for it, showers handed to it; tree.c says how it works.

On a GPU that of `device_kernel` is launched.
"""

from __future__ import annotations

import ctypes
import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from caloforge.models.networks.splines.kernel import FOLDER
from caloforge.models.networks.tensor_cache import TensorCache
from caloforge.models.tree.halvings import Halving, Source
from caloforge.models.tree.network import SplitNetwork
from caloforge.models.tree.split import LEAST_SCALE
from caloforge.runtime.compiled import REALS, compiled, in_threads, launches, multiplies_bf16, traced

__all__ = ["HalvingKernel", "tree_library"]

SOURCE = Path(__file__).with_name("tree.c")
FEW_SHOWERS = 4
"""Showers of which a thread is not worth its start."""
GRIDS = ("parents", "children", "earlier")
FORMS = ("seen", "logarithm", "lit", "asymmetry")


def tree_library(bf16: bool) -> ctypes.CDLL | None:
    """The kernel for networks in bfloat16 or float32; None where it cannot be had."""
    if bf16 and not multiplies_bf16():
        return None
    return compiled(SOURCE, FOLDER, REALS[torch.float32], f"-DBF16={int(bf16)}")


class _Sizes(ctypes.Structure):
    _fields_ = tuple((name, ctypes.c_int64) for name in ("known", "stages", "units", "depth", "components"))


class _Source(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_int64) for name in ("begin", "size", "grid", "form", "cells", "layer", "summed")),
        ("place", ctypes.c_void_p),
    )


class _Halving(ctypes.Structure):
    _fields_ = (
        ("sizes", _Sizes),
        *((name, ctypes.c_int64) for name in ("splits", "known", "context")),
        ("shape", ctypes.c_int64 * 3),
        ("child_shape", ctypes.c_int64 * 3),
        *((name, ctypes.c_int64) for name in ("passes", "sources", "whole", "children", "asymmetries")),
        *((name, ctypes.c_void_p) for name in ("pass_ends", "pass_stages", "layer_stages")),
        *((name, ctypes.c_void_p) for name in ("cells", "left", "right", "whole_cells", "whole_children")),
        *((name, ctypes.c_void_p) for name in ("table", "source", "places", "packed")),
        ("least_scale", ctypes.c_double),
    )


class _Packed:
    """A halving and its network as one of the libraries reads them.

    Args:
        library: which.
        halving: what is split.
        network: its weights.
        table: where what each split knows is found, (P + 1, K).
        size: S.
    """

    def __init__(
        self, library: ctypes.CDLL, halving: Halving, network: SplitNetwork, table: Tensor, size: int
    ) -> None:
        self.library = library
        sizes = _Sizes(table.shape[1], *network.enter.shape[:2], len(network.blocks), network.components)
        library.packed_bytes.restype = ctypes.c_int64
        self.memory = torch.empty(library.packed_bytes(ctypes.byref(sizes)) + 64, dtype=torch.uint8)
        place = -(-self.memory.data_ptr() // 64) * 64
        layers = [network.head, *network.blocks]
        weights = [network.entered(), *(layer.weight for layer in layers)]
        library.pack(
            ctypes.byref(sizes),
            *map(_pointers, (weights, [layer.bias for layer in layers])),
            ctypes.c_void_p(place),
        )
        parts = halving.sources.parts.values()
        self.source_places = [_places(part, halving) for part in parts]
        self.sources = (_Source * len(parts))(
            *(
                _Source(
                    part.begin,
                    part.size,
                    GRIDS.index(part.grid),
                    FORMS.index(part.form),
                    not part.axes,
                    part.size // (halving.n_stages if part.grid == "earlier" else len(place)),
                    place.shape[-1],
                    place.ctypes.data,
                )
                for part, place in zip(parts, self.source_places, strict=True)
            )
        )
        integers = (
            np.cumsum(halving.pass_sizes),
            np.array(halving.pass_stages, dtype=np.int64),
            halving.layer_stages,
            halving.cells,
            halving.left,
            halving.right,
            halving.whole,
            halving.whole_child,
        )
        self.integers = [np.ascontiguousarray(x, dtype=np.int64) for x in integers]
        self.table = table.int().contiguous()
        self.places = network.placed().contiguous()
        self.described = _Halving(
            sizes,
            len(halving.cells),
            size,
            size - halving.sources.size - 1,
            halving.shape,
            halving.child_shape,
            halving.n_passes,
            len(parts),
            len(halving.whole),
            *(halving.sources.parts[name].begin for name in ("children", "asymmetries")),
            *(x.ctypes.data for x in self.integers),
            self.table.data_ptr(),
            ctypes.addressof(self.sources),
            self.places.data_ptr(),
            place,
            LEAST_SCALE,
        )


def _places(part: Source, halving: Halving) -> NDArray[np.int32]:
    """Where each cell of a grid is among the numbers of a source, or is added; see tree.c for asymmetries."""
    if part.form == "asymmetry":
        return np.ascontiguousarray(halving.sides_of(part), dtype=np.int32)
    shape = halving.shape if part.grid == "parents" else halving.child_shape
    kept = [1 if i in part.axes else n for i, n in enumerate(shape)]
    numbers = np.arange(np.prod(kept), dtype=np.int32).reshape(kept)
    return np.ascontiguousarray(np.broadcast_to(numbers, shape))


def _pointers(tensors: Sequence[Tensor]) -> ctypes.Array[ctypes.c_void_p]:
    return (ctypes.c_void_p * len(tensors))(*(t.data_ptr() for t in tensors))


class HalvingKernel:
    """Samples one halving in compiled code; its packed weights are kept, see `TensorCache`."""

    def __init__(self) -> None:
        self._packed: TensorCache[_Packed] = TensorCache()
        self._on_device: Any = None

    def run(
        self,
        halving: Halving,
        network: SplitNetwork,
        table: Tensor,
        size: int,
        given: tuple[Tensor, Tensor, Tensor, Tensor],
        bf16: bool,
    ) -> Tensor | None:
        """Children (n, C); None where plain torch has to do it.

        Args:
            halving, network: of the model.
            table, size: where what each split knows is found, (P + 1, K), and S.
            given: parents, context, noise and threshold, see `HalvingModel.sample`.
            bf16: the network in bfloat16.
        """
        parameters = network.weights()
        if not _possible(given, parameters):
            return None
        if given[0].device.type != "cpu":
            if self._on_device is None:
                self._on_device = importlib.import_module(
                    "caloforge.models.tree.device_kernel"
                ).DeviceKernel()
            made: Tensor = self._on_device.run(halving, network, table, size, given, bf16)
            return made
        library = tree_library(bf16)
        if library is None:
            return None
        packed = self._packed(bf16, parameters, lambda: _Packed(library, halving, network, table, size))
        return _run(packed, halving, *given)


def _possible(given: Sequence[Tensor], parameters: Sequence[Tensor]) -> bool:
    return (
        all(t.dtype == torch.float32 for t in (*given, parameters[0]))
        and (given[0].device.type == "cpu" or launches(given[0].device))
        and not (torch.is_grad_enabled() and any(t.requires_grad for t in (*given, *parameters)))
        and not traced()
    )


def _run(
    packed: _Packed, halving: Halving, parents: Tensor, context: Tensor, noise: Tensor, threshold: Tensor
) -> Tensor:
    parents, context = parents.contiguous(), context.contiguous()
    if noise.stride()[1:] != (2, 1):  # its showers may be rows of a larger tensor
        noise = noise.contiguous()
    children = parents.new_empty(len(parents), halving.n_children)

    def part(begin: int, end: int) -> None:
        no_memory = packed.library.run(
            ctypes.byref(packed.described),
            ctypes.c_int64(end - begin),
            *(_row(t, begin) for t in (parents, context, noise)),
            ctypes.c_int64(noise.stride(0)),
            ctypes.c_void_p(threshold.data_ptr()),
            _row(children, begin),
        )
        if no_memory:
            raise MemoryError(f"not enough memory for {end - begin} showers of {halving.n_children} cells")

    in_threads(part, len(parents), FEW_SHOWERS)
    return children


def _row(x: Tensor, i: int) -> ctypes.c_void_p:
    return ctypes.c_void_p(x.data_ptr() + i * x.stride(0) * x.element_size())
