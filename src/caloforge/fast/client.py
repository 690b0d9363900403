"""Showers from a server on this machine; needs neither torch nor the model."""

from __future__ import annotations

import socket
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from caloforge.data.conditions import Conditions
from caloforge.errors import SimulationError
from caloforge.fast.orders import Offer, Order
from caloforge.runtime.processes import BYTES, Channel, Message, MessageError

__all__ = ["ShowerClient"]

MOST_BYTES = 1 << 31
CUT_OFF = "the server of showers has ended; start it again (caloforge serve) and go on with --resume"


class ShowerClient:
    """A connection to a server of showers; a context.

    Args:
        path: of the server's socket.

    Attributes:
        offer: what the server makes.

    Raises:
        SimulationError: there is no server.
    """

    def __init__(self, path: str | Path) -> None:
        end = socket.socket(socket.AF_UNIX)
        try:
            end.connect(str(path))
        except OSError as error:
            end.close()
            raise SimulationError(
                f"there is no server of showers at {path} ({error.strerror or error}); start one with: "
                f"caloforge serve MODEL --socket {path}"
            ) from None
        self._channel = Channel(end, MOST_BYTES)
        try:
            self.offer = Offer.read(self._answer())
        except (SimulationError, MessageError) as error:
            self._channel.close()
            raise SimulationError(f"{path}: {error}") from None

    def make(self, seed: int, numbers: NDArray[np.int64], conditions: Conditions) -> NDArray[np.float32]:
        """Energies (n, V), MeV, of showers with these numbers and conditions, all in one detector.

        Raises:
            ConditionError: the model does not know the detector.
            SimulationError: the server refuses, or it has ended.
        """
        n_voxels = self.offer.mesh(str(conditions.detector[0])).n_voxels
        made = np.empty((len(numbers), n_voxels), dtype=np.float32)
        for low in range(0, len(numbers), self.offer.most):
            part = slice(low, low + self.offer.most)
            order = Order(seed, numbers[part], conditions[part])
            try:
                self._channel.send(*order.message())
            except OSError:
                raise SimulationError(CUT_OFF) from None
            content = self._answer().get(BYTES, b"")
            if len(content) != made[part].nbytes:
                raise SimulationError(
                    f"the server of showers sent {len(content)} bytes for {len(order)} showers of "
                    f"{n_voxels} cells"
                )
            made[part] = np.frombuffer(content, np.float32).reshape(-1, n_voxels)
        return made

    def _answer(self) -> Message:
        messages = self._channel.receive()
        if not messages:
            raise SimulationError(CUT_OFF)
        if "error" in messages[0]:
            raise SimulationError(f"the server of showers: {messages[0]['error']}")
        return messages[0]

    def close(self) -> None:
        """End the connection."""
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
