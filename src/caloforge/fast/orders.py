"""What a server of showers and its clients say to each other: numbers, and nothing that could be run.

The server begins with what it is (`Offer`). An order is a line of JSON with ``seed``, ``n``, ``detector`` and
``impact`` (true or false), and columns of ``n`` numbers behind it: number (int64), particle (int64), energy,
theta, phi (float64) and, with impact, its x and y. The answer is ``n`` and the energies (n, V), float32, or
``error``. One order at a time: who has sent one waits for its answer.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caloforge.data.conditions import Conditions
from caloforge.detector.mesh import Mesh, mesh_from_dict
from caloforge.errors import ConditionError
from caloforge.runtime.processes import BYTES, Message, MessageError
from caloforge.runtime.streams import MOST_NUMBER, checked_seed

__all__ = ["MOST_SHOWERS", "Offer", "Order", "order_bytes"]

PROTOCOL = 1
MOST_SHOWERS = 1024
"""Showers of an order, at most."""
COLUMNS = {
    "number": np.int64,
    "particle": np.int64,
    "energy": np.float64,
    "theta": np.float64,
    "phi": np.float64,
}


def order_bytes(n: int, impact: bool) -> int:
    """Bytes behind an order of ``n`` showers."""
    return 8 * n * (len(COLUMNS) + 2 * impact)


@dataclass(frozen=True)
class Offer:
    """What a server makes.

    Attributes:
        name: of the checkpoint.
        fingerprint: of the checkpoint.
        execution: how it computes: device, precision, kernels, and torch's version.
        ranges: valid range of each detector.
        meshes: cells of each detector, as `Mesh.to_dict` has them.
        most: showers of an order, at most.
        caloforge: number of the protocol.
    """

    name: str
    fingerprint: str
    execution: dict[str, str]
    ranges: dict[str, dict[str, Any]]
    meshes: dict[str, dict[str, Any]]
    most: int
    caloforge: int = PROTOCOL

    def message(self) -> Message:
        """As it is sent."""
        return asdict(self)

    @classmethod
    def read(cls, message: Message) -> Offer:
        """The offer in a message; MessageError where there is none, or one of another version."""
        if message.get("caloforge") != PROTOCOL:
            told = message.get("error", "is no server of showers, or one of another version of caloforge")
            raise MessageError(f"the other side {told}")
        try:
            return cls(**{name: message[name] for name in cls.__dataclass_fields__})
        except KeyError as error:
            raise MessageError(f"the other side does not say its {error}") from None

    def mesh(self, detector: str) -> Mesh:
        """Cells of the showers in a detector; ConditionError where the model does not know it."""
        if detector not in self.meshes:
            raise ConditionError(
                f"{self.name} makes showers in {', '.join(self.meshes)}, not in {detector!r}; take "
                "another model"
            )
        return mesh_from_dict(self.meshes[detector])


@dataclass(frozen=True, eq=False)
class Order:
    """Showers that are wanted: their numbers (n,), conditions (n,), all in one detector, and the seed."""

    seed: int
    numbers: NDArray[np.int64]
    conditions: Conditions

    def __len__(self) -> int:
        return len(self.numbers)

    def message(self) -> tuple[Message, bytes]:
        """As it is sent: the line, and what comes behind it."""
        c = self.conditions
        columns: list[NDArray[Any]] = [self.numbers, c.particle, c.energy, c.theta, c.phi]
        if c.impact is not None:
            columns += [c.impact[:, 0], c.impact[:, 1]]
        told = {"seed": self.seed, "n": len(self), "impact": c.impact is not None}
        kinds = [*COLUMNS.values(), np.float64, np.float64]
        content = b"".join(x.astype(kind).tobytes() for x, kind in zip(columns, kinds, strict=False))
        return {**told, "detector": str(c.detector[0])}, content

    @classmethod
    def read(cls, message: Message, offer: Offer) -> Order:
        """The order in a message from anywhere.

        Raises:
            MessageError: it is none, or its sizes are wrong.
            ConditionError: there can be no such showers, or the model does not know the detector.
        """
        n, impact, detector = (message.get(name) for name in ("n", "impact", "detector"))
        if type(n) is not int or not 1 <= n <= offer.most:
            raise MessageError(f"an order is of 1 to {offer.most} showers, not {n!r}")
        if not isinstance(detector, str) or type(impact) is not bool:
            raise MessageError("an order says its detector, and whether it has impact points")
        content, wanted = message.get(BYTES, b""), order_bytes(n, impact)
        if not isinstance(content, bytes) or len(content) != wanted:
            raise MessageError(f"{wanted} bytes belong to {n} showers, not {len(content or b'')}")
        offer.mesh(detector)
        knows = "impact" in offer.ranges[detector]
        if knows != impact:
            raise ConditionError(f"{offer.name} {'needs' if knows else 'knows no'} impact points")
        rows = np.frombuffer(content, np.float64).reshape(-1, n)
        whole = rows[:2].view(np.int64)
        if whole[0].min() < 0 or whole[0].max() > MOST_NUMBER:
            raise ConditionError(f"numbers of showers must be from 0 to {MOST_NUMBER}")
        if whole[1].min() <= -(1 << 31) or whole[1].max() >= 1 << 31:
            raise ConditionError("there are no particles of such codes")
        energy, theta, phi = rows[2:5]
        points = rows[5:7].T if impact else None
        conditions = Conditions(energy, theta, phi, whole[1].astype(np.int32), detector, points)
        return cls(checked_seed(message.get("seed")), whole[0].copy(), conditions)
