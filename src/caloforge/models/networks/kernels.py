"""Networks that have a compiled kernel beside their plain torch version."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

from torch import nn

__all__ = ["HasKernel"]


class HasKernel(nn.Module):
    """A network with a compiled kernel.

    Attributes:
        kernel: its name.
        compiled: False for plain torch always; with True the kernel computes what it can.
    """

    kernel: ClassVar[str]
    compiled: bool = True

    def use_kernel(self, yes: bool) -> None:
        """Compute with the kernel from now on, or without."""
        self.compiled = yes

    @abstractmethod
    def load_kernel(self, bf16: bool) -> bool:
        """Find or compile the kernel for networks in bfloat16 or float32; False where it cannot be had."""
