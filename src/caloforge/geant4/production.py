"""How Geant4 makes a file: split into chunks, run in workers, resumed where stopped, joined in order.

While it runs, ``<out>.parts/`` is a `ChunkStore` of what is finished; the output file appears at the end,
complete. What is made depends on the settings, the seed and its own number only.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from caloforge.errors import DataError, SimulationError
from caloforge.geant4.environment import Geant4Data
from caloforge.geant4.pool import run_chunks
from caloforge.runtime.chunks import Chunk, ChunkStore
from caloforge.runtime.progress import Display
from caloforge.runtime.provenance import provenance
from caloforge.runtime.signals import stoppable
from caloforge.runtime.structured import json_text, parse_json

__all__ = ["produce"]


def produce(
    target: Path,
    settings: Mapping[str, Any],
    data: Geant4Data,
    *,
    module: str,
    what: str,
    workers: int,
    made_before: Callable[[Path], Mapping[str, Any]],
    join: Callable[[ChunkStore, dict[str, Any]], None],
    told: Mapping[str, Any] | None = None,
    resume: bool,
    overwrite: bool,
    progress: bool,
) -> None:
    """Make ``n`` of something, as the settings have it, in chunks of ``chunk``.

    Args:
        target: the file to make.
        settings: JSON-able; what decides what is made, ``n`` and ``chunk`` among it, beside Geant4 itself.
        data: what Geant4 works with.
        module: of the worker processes, which are given the settings.
        what: what is made, for messages.
        workers: processes, at most.
        made_before: the provenance of a file that is there already.
        join: makes the file of the finished chunks and its provenance.
        told: what the workers are told besides, which decides nothing.
        resume, overwrite, progress: as `caloforge.geant4.simulate` has them.

    Raises:
        DataError, SimulationError, KeyboardInterrupt: as there.
    """
    of_geant4 = {"official": data.official, "physics": data.physics, "data": data.description}
    of_geant4["geant4_pybind"] = version("geant4-pybind")
    request: dict[str, Any] = dict(parse_json(json_text({**settings, **of_geant4})))
    n, size = request["n"], request["chunk"]
    store = ChunkStore(target, request, n, "simulation", what)
    if _is_done(target, request, made_before, resume, overwrite):
        store.clear()
        return
    with store.open(resume=resume, overwrite=overwrite), stoppable(store.kept):
        try:
            finished = store.n_finished
            with Display(what, enabled=progress) as show:
                show("simulating", finished, n)
                run_chunks(
                    _unfinished(store, size),
                    module=module,
                    workers=workers,
                    folder=store.folder,
                    environment=data.environment,
                    settings={**request, **(told or {})},
                    progress=lambda made: show("simulating", finished + made, n),
                )
            join(store, provenance("simulate", **request) | {"fingerprint": _fingerprint(request)})
        except (SimulationError, DataError) as error:
            raise type(error)(f"{error}\n{store.kept()}") from None
        store.remove()


def _fingerprint(request: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()[:16]


def _is_done(
    target: Path,
    request: dict[str, Any],
    made_before: Callable[[Path], Mapping[str, Any]],
    resume: bool,
    overwrite: bool,
) -> bool:
    """True where ``target`` already is the result; raises DataError where it is something else."""
    if not target.exists() or overwrite:
        return False
    if resume:
        if made_before(target).get("fingerprint") == _fingerprint(request):
            return True
        raise DataError(
            f"{target} was made with other settings; choose another name or overwrite it (--overwrite)"
        )
    raise DataError(f"{target} exists; choose another name, or overwrite it (--overwrite)")


def _unfinished(store: ChunkStore, size: int) -> list[Chunk]:
    """What is to be made, in chunks of ``size``."""
    return [
        store.chunk(start, min(start + size, high))
        for low, high in store.gaps()
        for start in range(low, high, size)
    ]
