"""Make showers with Geant4: split into chunks, run in workers, resumed where stopped, merged in order.

While it runs, ``<out>.parts/`` holds ``settings.json`` and one file per finished chunk; the output file
appears at the end, complete. Every shower depends on the settings, the seed and its own number only.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from caloforge.data.beam import Beam
from caloforge.data.quantities import Quantity
from caloforge.data.showers import Showers
from caloforge.detector.detector import Detector
from caloforge.detector.mesh import Mesh
from caloforge.errors import DataError, SimulationError
from caloforge.geant4.beam import make_beam
from caloforge.geant4.chunks import read_chunk
from caloforge.geant4.environment import Geant4Data, find_data, require_particle
from caloforge.geant4.pool import Chunk, run_chunks
from caloforge.runtime.cores import usable_cores
from caloforge.runtime.progress import Display
from caloforge.runtime.provenance import provenance

__all__ = ["simulate"]

ENGINE_VERSION = 1  # raise when the showers of given settings change
CHUNK_MEV = 200_000.0  # about two seconds of one core: what a kill loses at most


def simulate(
    detector: str | os.PathLike[str] | Detector,
    *,
    out: str | os.PathLike[str],
    n: int,
    particle: str = "e-",
    energy: Quantity = "1-10GeV",
    spectrum: str = "log-uniform",
    theta: Quantity | None = None,
    phi: Quantity | None = None,
    impact: Sequence[Quantity] | str | None = None,
    seed: int = 0,
    workers: int | None = None,
    resume: bool = False,
    overwrite: bool = False,
    progress: bool = True,
    mesh: Mesh | None = None,
    allow_outside: bool = False,
    reduced_data: bool = False,
) -> Showers:
    """Simulate ``n`` showers into the file ``out`` and open it.

    Args:
        detector: name, path of a TOML file, or `Detector`.
        out: HDF5 file to make.
        n: number of showers.
        particle: Geant4's name; hadrons need the official data sets.
        energy: kinetic energy, ``"10GeV"``, a range ``"1-50GeV"``, or a list that the showers take in turn
            (``"1GeV,10GeV"``); numbers are MeV.
        spectrum: ``"log-uniform"`` or ``"uniform"``, for ranges of energy.
        theta, phi: direction, ``"90deg"``, ``"1.2-1.6rad"``, or numbers in rad; by default normal incidence
            and 0.
        impact: point on the face of a box, ``"0mm,-20..20mm"`` or pairs of numbers in mm; the detector's
            spread by default.
        seed: with a shower's number, decides everything random in it.
        workers: processes; the number of usable cores by default. The result does not depend on it.
        resume: go on with what an interrupted run of the same settings left.
        overwrite: replace ``out`` and what an interrupted run left.
        progress: show a progress bar where stderr is a terminal.
        mesh: other cells than the detector's own.
        allow_outside: simulate beyond the detector's valid range.
        reduced_data: use the reduced electromagnetic data even where the official data sets are found.

    Returns:
        The showers on disk, MeV, with the column ``geant4_cpu_seconds`` (N,).

    Raises:
        ConditionError: the beam is malformed or outside the valid range.
        DataError: ``out`` exists, or cannot be written.
        SimulationError: no data for the particle, settings differ from those to resume, or a worker failed.
    """
    detector = detector if isinstance(detector, Detector) else Detector.load(detector)
    beam = make_beam(
        detector,
        particle=particle,
        energy=energy,
        spectrum=spectrum,
        theta=theta,
        phi=phi,
        impact=impact,
        allow_outside=allow_outside,
    )
    if n < 1:
        raise SimulationError(f"n must be at least 1 shower, got {n}")
    if workers is not None and workers < 1:
        raise SimulationError(f"workers must be at least 1, got {workers}")
    data = find_data(reduced=reduced_data)
    require_particle(data, str(beam.particle))
    settings = _settings(detector, mesh or detector.mesh, beam, n, seed, data)
    target = Path(out)
    if _is_done(target, settings, resume, overwrite):
        return _open(target)
    parts = target.with_name(target.name + ".parts")
    with _parts_folder(parts, settings, resume, overwrite) as chunks:
        left = [chunk for chunk in chunks if not chunk.path.exists()]
        made = n - sum(chunk.stop - chunk.start for chunk in left)
        try:
            with Display("showers", enabled=progress) as show:
                show("simulating", made, n)

                def count(more: int) -> None:
                    nonlocal made
                    made += more
                    show("simulating", made, n)

                if left:
                    run_chunks(
                        left,
                        workers=workers or usable_cores(),
                        folder=parts,
                        environment=data.environment,
                        settings=settings,
                        progress=count,
                    )
        except SimulationError as error:
            raise SimulationError(f"{error}\n{_kept(chunks, parts)}") from None
        except KeyboardInterrupt:
            print(f"\ninterrupted. {_kept(chunks, parts)}", file=sys.stderr)
            raise
        try:
            _merge(target, chunks, detector, mesh or detector.mesh, beam, settings, overwrite)
        except DataError as error:
            raise DataError(f"{error}\n{_kept(chunks, parts)}") from None
    shutil.rmtree(parts, ignore_errors=True)
    return _open(target)


def _open(path: Path) -> Showers:
    from caloforge.data import open_showers

    return open_showers(path)


def _settings(
    detector: Detector, mesh: Mesh, beam: Beam, n: int, seed: int, data: Geant4Data
) -> dict[str, Any]:
    """Everything that the showers depend on, JSON-able."""
    mean = float(np.mean([(a + b) / 2 for a, b in beam.energies]))
    settings = {
        "detector": detector.to_dict(),
        "mesh": mesh.to_dict(),
        "beam": beam.to_dict(),
        "n": n,
        "seed": seed,
        "official": data.official,
        "physics": data.physics,
        "data": data.description,
        "geant4_pybind": version("geant4-pybind"),
        "engine": ENGINE_VERSION,
        "chunk": int(np.clip(CHUNK_MEV / mean, 1, max(1, -(-n // 16)))),
    }
    return dict(json.loads(json.dumps(settings)))


def _fingerprint(settings: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]


def _is_done(target: Path, settings: dict[str, Any], resume: bool, overwrite: bool) -> bool:
    """True where ``target`` already is the result; raises DataError where it is something else."""
    if not target.exists() or overwrite:
        return False
    if resume:
        if _open(target).provenance.get("fingerprint") == _fingerprint(settings):
            return True
        raise DataError(
            f"{target} was made with other settings; choose another name or overwrite it (--overwrite)"
        )
    raise DataError(f"{target} exists; choose another name, or overwrite it (--overwrite)")


@contextmanager
def _parts_folder(
    parts: Path, settings: dict[str, Any], resume: bool, overwrite: bool
) -> Iterator[list[Chunk]]:
    """The chunks of this run, in a folder that no other process uses at the same time."""
    stored = parts / "settings.json"
    try:
        parts.mkdir(parents=True, exist_ok=True)
        lock = (parts / "lock").open("w")
    except OSError as error:
        raise DataError(f"cannot write into {parts}: {error}") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SimulationError(
                f"another simulation is writing into {parts}; wait for it or choose another name"
            ) from None
        if stored.exists() and not (resume or overwrite):
            raise SimulationError(
                f"{parts} holds showers of an interrupted run; go on with it (--resume) or "
                "discard it (--overwrite)"
            )
        if stored.exists() and resume:
            _check_same(json.loads(stored.read_text("utf-8")), settings, parts)
        else:
            for old in parts.glob("chunk-*"):
                old.unlink()
            temporary = stored.with_suffix(".partial")
            temporary.write_text(json.dumps(settings, indent=1), "utf-8")
            temporary.replace(stored)
        size, n = settings["chunk"], settings["n"]
        yield [
            Chunk(i, start, min(start + size, n), parts.resolve() / f"chunk-{i:06d}.npz")
            for i, start in enumerate(range(0, n, size))
        ]


def _check_same(stored: dict[str, Any], settings: dict[str, Any], parts: Path) -> None:
    differences = [
        f"{name} was {_short(stored.get(name))}, now {_short(settings.get(name))}"
        for name in sorted({*stored, *settings})
        if stored.get(name) != settings.get(name)
    ]
    if differences:
        raise SimulationError(
            f"{parts} cannot be resumed, its settings differ: {'; '.join(differences)}. "
            "Use the same settings, another name, or discard it (--overwrite)"
        )


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 200 else text[:200] + "…"


def _kept(chunks: list[Chunk], parts: Path) -> str:
    kept = sum(chunk.stop - chunk.start for chunk in chunks if chunk.path.exists())
    return (
        f"{kept} of {chunks[-1].stop} showers are kept in {parts}; the same command with --resume "
        "(resume=True) goes on from there."
    )


def _merge(
    target: Path,
    chunks: list[Chunk],
    detector: Detector,
    mesh: Mesh,
    beam: Beam,
    settings: dict[str, Any],
    overwrite: bool,
) -> None:
    """Join the chunks in order of shower number."""
    from caloforge.data.writer import ShowerWriter

    record = provenance("simulate", **settings)
    record["fingerprint"] = _fingerprint(settings)
    with ShowerWriter(target, mesh, provenance=record, overwrite=overwrite) as writer:
        for chunk in chunks:
            energies, seconds = read_chunk(chunk.path)
            conditions = beam.conditions(detector.name, settings["seed"], np.arange(chunk.start, chunk.stop))
            writer.append(energies, conditions, extra={"geant4_cpu_seconds": seconds})
