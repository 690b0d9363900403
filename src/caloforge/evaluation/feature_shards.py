"""Features of a production in files, a part at a time, and samples put together of them.

The reference is read once and whole, each part of the generated sample where it was made; whoever has the
files judges the production.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from caloforge.data import Conditions, Showers, open_showers
from caloforge.data.formats.hdf5 import open_file
from caloforge.data.matching import matched_conditions
from caloforge.errors import DataError
from caloforge.evaluation.progress import Progress, reporting
from caloforge.evaluation.reading import Reading, read_reference, read_sample
from caloforge.evaluation.reading_file import (
    FORMAT,
    GEANT4_SECONDS,
    NoCells,
    Stored,
    empty_reading,
    write_reading,
)

__all__ = ["matched_showers", "merge_features", "open_samples", "save_features", "save_reference_features"]

PathLike = str | os.PathLike[str]
MOST_NAMED = 5


def save_reference_features(
    showers: Showers,
    out: PathLike,
    *,
    threshold_mev: float | None = None,
    overwrite: bool = False,
    progress: bool | Progress = True,
) -> None:
    """Read the reference, twice, and write what was learnt; see `caloforge.evaluation.evaluate`.

    Raises:
        DataError: there is no energy at all, or the file cannot be written.
    """
    (showers,) = matched_showers([showers])
    with reporting(progress) as report:
        reading = read_reference(showers, threshold_mev=threshold_mev, report=report, keep=np.inf)
    write_reading(reading, Path(out), role="reference", overwrite=overwrite)


def save_features(
    showers: Showers,
    reference: PathLike,
    out: PathLike,
    *,
    overwrite: bool = False,
    progress: bool | Progress = True,
) -> None:
    """Read a part of a generated sample, once, and write what was learnt.

    Args:
        showers: the part.
        reference: the file that `save_reference_features` made.
        out: an HDF5 file.
        overwrite: replace a file that is there.
        progress: show bars on the terminal, or a function that is called instead.

    Raises:
        MeshError: the reference is on another mesh.
        DataError: there is no energy at all, ``reference`` is none, or the file cannot be written.
    """
    if not _holds_features(Path(reference)):
        raise DataError(
            f"{reference} holds showers; make its features first "
            f"(caloforge evaluate {reference} --features-out FILE)"
        )
    known = Stored(Path(reference))
    if known.role != "reference":
        raise DataError(f"{reference}: features of a generated sample; name those of the reference")
    known.mesh.require_same(showers.mesh, "showers to compare")
    _, showers = matched_showers([known.showers(), showers])
    with reporting(progress) as report:
        reading = read_sample(showers, "generated showers", known.scales, report, keep=np.inf)
    write_reading(reading, Path(out), role="generated", overwrite=overwrite)


def open_samples(
    reference: PathLike, generated: PathLike | None, features: Sequence[PathLike] = ()
) -> tuple[Showers | Reading, Showers | Reading]:
    """Reference and generated showers, and what was learnt of them before, to be evaluated.

    Args:
        reference: showers, or a file of their features.
        generated: showers; None where there are features of them only.
        features: files of features, or folders of them, of all parts of the generated sample, and of the
            reference where that is named by its showers.

    Raises:
        DataError: features are missing, there twice or do not belong together, or a file cannot be read.
        MeshError: they are on different meshes.
    """
    truth = None if _holds_features(Path(reference)) else open_showers(reference)
    known = merge_features([Stored(Path(reference))]) if truth is None else truth
    showers = None if generated is None else open_showers(generated)
    if not features:
        if showers is None:
            raise DataError(f"name the showers to be judged by {reference}, or their features")
        return known, showers
    found = list(_found(map(Path, features)))
    parts = [part for part in found if part.role != "reference"]
    if not parts:
        raise DataError(
            f"there are no features of generated showers in {', '.join(map(str, features))}; "
            "caloforge evaluate --features-out makes them"
        )
    if truth is not None:
        references = [part for part in found if part.role == "reference"]
        if len(references) != 1:
            raise DataError(
                f"the features of {reference} have to be among those given, once; there are "
                f"{len(references)} of a reference"
            )
        known = merge_features(references, truth)
    return known, merge_features(parts, showers)


def _holds_features(path: Path) -> bool:
    """Whether a file holds features rather than showers; DataError where it cannot be read at all."""
    with open_file(path) as file:
        return FORMAT in file.attrs


def _found(paths: Iterable[Path]) -> Iterator[Stored]:
    """Files of features among files, and in folders in the order of their names there."""
    for path in paths:
        if path.is_dir():
            yield from (Stored(part) for part in sorted(path.glob("*.h5")) if _holds_features(part))
        else:
            yield Stored(path)


def merge_features(parts: Sequence[Stored], showers: Showers | None = None) -> Reading:
    """One sample of its parts, as if it had been read whole.

    Args:
        parts: files of one production, all of them, in any order; where their showers do not tell which part
            they are, in the order in which they follow one another.
        showers: the same showers with their cells, for what needs them.

    Raises:
        DataError: a part is missing, there twice or of another production, they were not made with the same
            reference, or ``showers`` are others.
        MeshError: a part is on another mesh.
    """
    ordered = _ordered(parts)
    conditions = Conditions.concatenate([part.conditions for part in ordered])
    if showers is None:
        showers = Showers(
            NoCells(len(conditions)), conditions, ordered[0].mesh, _provenance(ordered), _seconds(ordered)
        )
    elif len(showers) != len(conditions) or not np.allclose(
        showers.conditions.energy, conditions.energy, rtol=1e-5, atol=0
    ):
        raise DataError(
            f"the features, of {len(conditions):,} showers, are not those of the {len(showers):,} showers "
            "given, in their order"
        )
    reading, start = empty_reading(showers, ordered[0].scales), 0
    for part in ordered:
        part.add_to(reading, start)
        start += len(part)
    return reading


def _ordered(parts: Sequence[Stored]) -> list[Stored]:
    """The parts in order, after it was found that all of them are there, once, and belong together."""
    first, seen = parts[0], dict[str, Path]()
    for part in parts:
        first.mesh.require_same(part.mesh, f"{part.path}, beside {first.path}")
        if part.reference != first.reference:
            raise DataError(
                f"{part.path} and {first.path} were made with different references; make them with one"
            )
        if part.made != first.made:
            raise DataError(
                f"{part.path} is of another production than {first.path} (another model, seed, setting or "
                "version); name the files of one"
            )
        named = str(part.shard) if part.made else hashlib.sha256(part.prints.tobytes()).hexdigest()
        if (other := seen.setdefault(named, part.path)) != part.path:
            what = f"shard {part.shard}" if part.made else "the same showers"
            raise DataError(f"{other} and {part.path} are both {what}; take one of them away")
    if not first.made:
        return list(parts)
    total = {part.shard.of for part in parts}
    if len(total) > 1:
        raise DataError(f"{first.path} and others are shards of different numbers: {sorted(total)}")
    missing = [n for n in range(1, first.shard.of + 1) if f"{n}/{first.shard.of}" not in seen]
    if missing:
        named = ", ".join(f"{n}/{first.shard.of}" for n in missing[:MOST_NAMED])
        more = f" and {len(missing) - MOST_NAMED} more" if len(missing) > MOST_NAMED else ""
        raise DataError(
            f"the features of shards {named}{more} are missing; make them where these showers are "
            "(caloforge evaluate --features-out)"
        )
    return sorted(parts, key=lambda part: part.shard.number)


def _provenance(parts: Sequence[Stored]) -> dict[str, Any]:
    """Of all parts: of one, or of the first of several, with the time a shower of all of them."""
    if len(parts) == 1:
        return dict(parts[0].provenance)
    told: dict[str, Any] = {"action": "concatenate", "files": len(parts), "first": parts[0].provenance}
    try:
        times = [len(p) * float(p.provenance["performance"]["ms_per_shower"]) for p in parts]
    except (KeyError, TypeError, ValueError):
        return told
    return told | {"performance": {"ms_per_shower": sum(times) / sum(map(len, parts))}}


def _seconds(parts: Sequence[Stored]) -> dict[str, Any]:
    seconds = [part.seconds for part in parts if part.seconds is not None]
    return {GEANT4_SECONDS: np.concatenate(seconds)} if len(seconds) == len(parts) else {}


def matched_showers(samples: Sequence[Showers]) -> list[Showers]:
    """The samples, with the first one's discrete energies and angles where only rounding differs."""
    conditions = matched_conditions([showers.conditions for showers in samples])
    return [
        Showers(showers.source, matched, showers.mesh, showers.provenance, showers.extra)
        for showers, matched in zip(samples, conditions, strict=True)
    ]
