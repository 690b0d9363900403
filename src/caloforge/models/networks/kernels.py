"""Networks that have a compiled kernel beside their plain torch version, and which of them are used."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar, Literal

import torch
from torch import nn

from caloforge.errors import CaloforgeError
from caloforge.models.networks.fused import Fusable, fuse
from caloforge.runtime.compiled import launches

__all__ = ["HasKernel", "choose_kernels", "kernel_names"]


class HasKernel(Fusable):
    """A network with a compiled kernel.

    Attributes:
        kernel: its name.
        on_gpu: it has one in Triton, too.
        compiled: False for plain torch always; with True the kernel computes what it can.
    """

    kernel: ClassVar[str]
    on_gpu: ClassVar[bool] = False
    compiled: bool = True

    def use_kernel(self, yes: bool) -> None:
        """Compute with the kernel from now on, or without."""
        self.compiled = yes

    @abstractmethod
    def load_kernel(self, bf16: bool) -> bool:
        """Find or compile the kernel of a CPU, for bfloat16 or float32; False where it cannot be had."""


def _with_kernels(model: nn.Module) -> list[HasKernel]:
    return [network for network in model.modules() if isinstance(network, HasKernel)]


def kernel_names(model: nn.Module) -> tuple[str, ...]:
    """Kernels that the networks of a model have."""
    return tuple(sorted({network.kernel for network in _with_kernels(model)}))


def choose_kernels(
    model: nn.Module, device: torch.device, choice: str, bf16: bool
) -> Literal["compiled", "fused", "plain"]:
    """Have all networks of a model use their kernels, or none, or those that torch fuses.

    Args:
        model: whose networks.
        device: where they compute.
        choice: "auto", "compiled", "fused" or "plain".
        bf16: some of them in bfloat16.

    Raises:
        CaloforgeError: kernels are asked for that cannot be had.
    """
    networks = _with_kernels(model)
    compiled = choice in ("auto", "compiled")
    if device.type == "cpu":
        compiled = compiled and all(network.load_kernel(bf16) for network in networks)
    else:
        able = bool(networks) and all(network.on_gpu for network in networks)
        compiled = compiled and able and launches(device)
    if choice == "compiled" and networks and not compiled:
        raise CaloforgeError(
            f"no compiled kernels ({', '.join(kernel_names(model))}) for {device}"
            f"{' and bfloat16' if bf16 else ''}: they need a CPU{' with AVX-512 BF16' if bf16 else ''} and a "
            "C compiler, that of trees else CUDA with Triton, and no CALOFORGE_KERNELS=0; leave kernels out, "
            "or ask for plain ones"
        )
    fuse(model, device, choice == "fused")
    for network in networks:
        network.use_kernel(compiled)
    return "fused" if choice == "fused" else "compiled" if compiled else "plain"
