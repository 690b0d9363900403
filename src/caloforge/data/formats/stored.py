"""What HDF5 does in silence with a data set: look into other files, make up values, need filters it lacks."""

from __future__ import annotations

import importlib
import math
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import h5py

from caloforge.errors import DataError

__all__ = ["require_own_values", "require_stored"]

FILTERS = {
    307: "bzip2",
    32000: "lzf",
    32001: "blosc",
    32004: "lz4",
    32008: "bitshuffle",
    32013: "zfp",
    32015: "zstd",
    32026: "blosc2",
}
"""Names of common filters by the number under which they are registered."""
UNLIMITED = (1 << 64) - 1


class _Elsewhere(NamedTuple):
    """A data set whose values are in another file; ``missing`` says what is not there, if anything."""

    name: str
    how: str
    missing: str


class _Part(NamedTuple):
    """A source of a virtual data set, without the handles of HDF5: each file that closes goes through all.

    ``highest`` are the largest indices that are mapped; None where all is.
    """

    file_name: str
    dset_name: str
    points: int
    highest: tuple[int, ...] | None


def require_own_values(file: h5py.File, ignore: Iterable[str] = (), *, allow_external: bool = False) -> None:
    """DataError where values of a file are in other files: anything readable on this machine could be there.

    Args:
        file: the file.
        ignore: data sets and groups that are not read.
        allow_external: let them be, where all that they are made of exists.
    """
    left_out = set(ignore)
    for name, how, missing in _elsewhere(file, look=allow_external):
        if left_out.intersection((name, name.partition("/")[0])):
            continue
        where = f"{file.filename}, data set {name!r}"
        if not allow_external:
            raise _not_own(where, name, how)
        if missing:
            raise DataError(f"{where}: its values are in {how}, of which {missing}; put that where it was")


def _not_own(where: str, name: str, how: str) -> DataError:
    return DataError(
        f"{where}: its values are not in this file but in {how}; if you trust who made it, allow that with "
        f"allow_external=True (--allow-external), or leave it out with ignore=[{name!r}] (--ignore {name})"
    )


def require_stored(stored: h5py.Dataset, *, allow_external: bool = False) -> None:
    """DataError unless a data set can be read: all values were written, in this file, with known filters.

    By another name it may be one that `require_own_values` left out.
    """
    name, plist = stored.name[1:], stored.id.get_create_plist()
    where = f"{stored.file.filename}, data set {name!r}"
    if not allow_external:
        for how, _ in _sources(stored, look=False):
            raise _not_own(where, name, how)
    for place in range(plist.get_nfilters()):
        number, _, _, name = plist.get_filter(place)
        if not _has_filter(number):
            told = FILTERS.get(number) or name.decode(errors="replace").strip("\0") or "unknown"
            raise DataError(
                f"{where}: it is compressed with the filter {told.split(';')[0]} (number {number}), which is "
                "not installed; most filters come with: pip install hdf5plugin"
            )
    if not stored.size or stored.is_virtual or plist.get_external_count():
        return
    chunks = stored.chunks
    expected = math.prod(-(-n // c) for n, c in zip(stored.shape, chunks, strict=True)) if chunks else 1
    found = stored.id.get_num_chunks() if chunks else min(stored.id.get_storage_size(), 1)
    if found < expected:
        raise DataError(
            f"{where}: shape {stored.shape}, but only {found} of its {expected} blocks were ever written; "
            "the file is incomplete, make or get it again"
        )


def _has_filter(number: int) -> bool:
    if not h5py.h5z.filter_avail(number):
        with suppress(ImportError):
            importlib.import_module("hdf5plugin")  # makes its filters known
    return bool(h5py.h5z.filter_avail(number))


def _elsewhere(file: h5py.File, *, look: bool) -> Iterator[_Elsewhere]:
    """What is in other files; where these are to be looked at, also what of it is missing."""
    groups: list[tuple[str, h5py.Group]] = [("", file)]
    seen = {file.id}
    parts: dict[Path, list[tuple[str, _Part]]] = {}  # by file, so that each is opened once
    for prefix, group in groups:  # which grow
        for key in group:
            if isinstance(key, bytes):
                raise DataError(f"{file.filename}: the name {key!r} in it is not UTF-8; rename that")
            name, link, item = prefix + key, group.get(key, getlink=True), None
            if isinstance(link, h5py.HardLink) or (look and isinstance(link, h5py.ExternalLink)):
                item = group.get(key)
            if isinstance(link, h5py.ExternalLink):
                gone = f"{link.path} is missing" if item is None else ""
                yield _Elsewhere(name, f"{link.filename} (an external link)", gone)
            if isinstance(item, h5py.Group) and item.id not in seen:
                seen.add(item.id)
                groups.append((f"{name}/", item))
            elif isinstance(item, h5py.Dataset):
                if look and item.is_virtual:
                    for source in _parts(item):
                        parts.setdefault(_place(item, source), []).append((name, source))
                told = _sources(item, look=look and not item.is_virtual)
                yield from (_Elsewhere(name, *source) for source in told)
    for path, mapped in parts.items():
        for (name, source), gone in zip(mapped, _gone(path, [source for _, source in mapped]), strict=True):
            yield _Elsewhere(name, _by(source), gone)


def _sources(stored: h5py.Dataset, *, look: bool) -> Iterator[tuple[str, str]]:
    """The other files in which values of a data set are, and if asked what of those is missing."""
    plist = stored.id.get_create_plist()
    for place in range(plist.get_external_count()):
        name, offset, size = plist.get_external(place)
        path, wanted = Path(os.fsdecode(name)), offset + (stored.nbytes if size == UNLIMITED else size)
        there = path.stat().st_size if look and path.is_file() else 0
        yield f"{path} (external storage)", f"bytes up to {wanted} are missing" if there < wanted else ""
    if stored.is_virtual:
        mapped = 0
        for source in _parts(stored):
            mapped += source.points
            if look or source.file_name != ".":
                yield _by(source), _gone(_place(stored, source), [source])[0] if look else ""
        if mapped < stored.size:
            yield "no file at all", f"{stored.size - mapped} values are missing (a virtual data set)"


def _parts(stored: h5py.Dataset) -> list[_Part]:
    """The sources of a virtual data set."""
    found = []
    for source in stored.virtual_sources():
        everything = source.src_space.get_select_type() == h5py.h5s.SEL_ALL
        highest = None if everything else source.src_space.get_select_bounds()[1]
        found.append(_Part(source.file_name, source.dset_name, source.vspace.get_select_npoints(), highest))
    return found


def _by(source: _Part) -> str:
    return f"{source.file_name} (a virtual data set)"


def _place(stored: h5py.Dataset, source: _Part) -> Path:
    """The file of one source of a virtual data set."""
    here = Path(stored.file.filename)
    return here if source.file_name == "." else here.parent / source.file_name


def _gone(path: Path, sources: Sequence[_Part]) -> list[str]:
    """What is missing of each of the sources that are in one file."""
    if not path.is_file():
        return [f"{path} is missing"] * len(sources)
    try:
        with h5py.File(path, "r", locking="best-effort") as other:
            return [_gone_of(other, source) for source in sources]
    except OSError as error:
        return [f"{path} is unreadable ({error})"] * len(sources)


def _gone_of(other: h5py.File, source: _Part) -> str:
    item = other.get(source.dset_name)
    if not isinstance(item, h5py.Dataset):
        return f"data set {source.dset_name!r} is missing"
    if not _fits(source, item):
        return f"data set {source.dset_name!r} has another shape, {item.shape}"
    require_stored(item, allow_external=True)
    return next((missing for _, missing in _sources(item, look=True) if missing), "")


def _fits(source: _Part, item: h5py.Dataset) -> bool:
    """Whether the source has all that is mapped of it."""
    if source.highest is None:
        return bool(item.size == source.points)
    edges = zip(source.highest, item.shape, strict=True)
    return len(source.highest) == item.ndim and all(h < n for h, n in edges)
