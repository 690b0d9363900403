"""How files of showers are opened: what `open_showers` is told, also for a whole program or command."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from caloforge.detector.mesh import Mesh

__all__ = ["Opening", "how_to_open", "opening"]


@dataclass(frozen=True)
class Opening:
    """What is told of files; see `open_showers`."""

    mesh: Mesh | None = None
    ignore: tuple[str, ...] = ()
    allow_external: bool = False


_CURRENT: ContextVar[Opening] = ContextVar("opening")


def how_to_open() -> Opening:
    """What holds here."""
    return _CURRENT.get(Opening())


@contextmanager
def opening(
    *, mesh: Mesh | None = None, ignore: Iterable[str] = (), allow_external: bool = False
) -> Iterator[Opening]:
    """Within this, every file of showers is opened so, by whatever opens it; arguments of `open_showers`.

    ``with opening(ignore=["noise"]): evaluate("geant4.h5", "generated.h5", out="report")``
    """
    outer = how_to_open()
    inner = dataclasses.replace(
        outer,
        mesh=mesh or outer.mesh,
        ignore=(*outer.ignore, *ignore),
        allow_external=allow_external or outer.allow_external,
    )
    token = _CURRENT.set(inner)
    try:
        yield inner
    finally:
        _CURRENT.reset(token)
