"""A server of showers that is there already, or one of our own."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from caloforge.errors import ConditionError
from caloforge.fast.client import ShowerClient
from caloforge.fast.orders import Offer

if TYPE_CHECKING:
    from caloforge.checkpoint.checkpoint import Checkpoint

__all__ = ["server_of"]

MOST_FOLDER = 50
"""Bytes of the name of the folder for a socket, whose own name has 107 at most."""


@contextmanager
def server_of(
    model: Checkpoint | str | os.PathLike[str] | None,
    detector: str | None,
    settings: Mapping[str, Any] | None = None,
    threads: int = 1,
    device: str = "auto",
    precision: str = "auto",
    kernels: str = "auto",
) -> Iterator[tuple[Path, Offer]]:
    """The socket of a server and what it makes.

    Args:
        model: a checkpoint, its folder or name, or the socket of a server, with which torch is not needed
            here; None for the model that comes with caloforge for the detector.
        detector: its name.
        settings, device, precision, kernels: of the model; a server has its own.
        threads: of a server of our own.
    """
    path = Path(model) if isinstance(model, str | os.PathLike) else Path()
    if _is_socket(path):
        if settings or (device, precision, kernels) != ("auto", "auto", "auto"):
            raise ConditionError(f"{path} is a server, which computes as it was started; give it no settings")
        with ShowerClient(path) as client:
            yield path, client.offer
        return
    from caloforge.fast.maker import ShowerMaker
    from caloforge.fast.server import ShowerServer
    from caloforge.generation.request import resolve_checkpoint

    maker = ShowerMaker(resolve_checkpoint(model, detector, settings), device, precision, kernels)
    place = tempfile.gettempdir()
    place = place if len(os.fsencode(place)) < MOST_FOLDER else "/tmp"
    with (
        tempfile.TemporaryDirectory(prefix="caloforge-", dir=place) as folder,
        ShowerServer(maker, Path(folder) / "showers", threads=threads) as server,
    ):
        yield server.path, server.offer


def _is_socket(path: Path) -> bool:
    try:
        return path.is_socket()
    except OSError:  # a name that is too long, a folder that may not be entered
        return False
