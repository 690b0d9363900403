"""Damages files of showers at random and reads them: errors of ours or right numbers, and nothing else.

``python damage.py FOLDER FIRST STOP`` tries the damages of these numbers, one line each: the number, what was
done to which file, and how it was read: "right", "refused: …", or what must not be.
"""

from __future__ import annotations

import resource
import shutil
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import make_layouts
import numpy as np

from caloforge.data import Conditions, Showers, open_showers, write_showers
from caloforge.detector import CylinderMesh
from caloforge.errors import CaloforgeError

N = 40
MEMORY = 4 << 30
Generator = np.random.Generator


def make_files(folder: Path) -> list[Path]:
    """A file of ours, in which every value has a checksum, and one of each layout."""
    rng = np.random.default_rng(0)
    mesh = CylinderMesh.regular(n_z=5, n_phi=4, n_r=3)
    conditions = Conditions(
        rng.uniform(1e3, 1e5, N),
        rng.uniform(0.1, 3.0, N),
        rng.uniform(-3, 3, N),
        np.where(rng.random(N) < 0.5, 11, 22),
        np.where(rng.random(N) < 0.5, "here", "elsewhere"),
        rng.normal(size=(N, 2)),
    )
    extra = {"seconds": rng.random(N), "label": np.array([f"n{i}" for i in range(N)])}
    showers = Showers(make_layouts.sparse((N, 60)), conditions, mesh, {"made": "here"}, extra)
    write_showers(showers, folder / "ours.h5", overwrite=True)
    for name, make in OTHERS.items():
        make(folder / name)
    return [folder / "ours.h5", *(folder / name for name in OTHERS)]


def earlier(path: Path) -> None:
    """Our layout as earlier versions wrote it: texts of any length, and no checksums but of the showers."""
    with h5py.File(path.with_name("ours.h5")) as source, h5py.File(path, "w") as file:
        for name, stored in source.items():
            text = h5py.check_string_dtype(stored.dtype)
            file[name] = stored[()] if text is None else stored[()].astype(object)
        for key, value in source.attrs.items():
            file.attrs[key] = value.decode() if isinstance(value, bytes) else value


OTHERS: dict[str, Callable[[Path], object]] = {
    "earlier.h5": earlier,
    "challenge.h5": lambda path: make_layouts.calochallenge(path, "1-photons", n=20),
    "gamma.h5": make_layouts.calogan,
    "par04siw.h5": lambda path: make_layouts.lemurs(path, n=2),
}


def read(path: Path) -> list[Any]:
    """All that is in a file."""
    showers = open_showers(path)
    c = showers.conditions
    columns = [
        c.energy,
        c.theta,
        c.phi,
        c.particle,
        c.detector,
        np.zeros(0) if c.impact is None else c.impact,
    ]
    return [
        showers.energies,
        *columns,
        *(showers.extra[name] for name in sorted(showers.extra)),
        showers.meshes,
    ]


def same(first: list[Any], second: list[Any]) -> bool:
    return len(first) == len(second) and all(
        a.dtype.kind == b.dtype.kind and np.array_equal(a, b) if isinstance(a, np.ndarray) else a == b
        for a, b in zip(first, second, strict=True)
    )


# damages of bytes


def place(content: bytes, rng: Generator) -> int:
    """Of a byte that is not zero, as is most of a small file."""
    return int(rng.choice(np.flatnonzero(np.frombuffer(content, dtype=np.uint8))))


def cut(content: bytes, rng: Generator) -> bytes:
    return content[: int(rng.integers(len(content)))]


def flip(content: bytes, rng: Generator) -> bytes:
    changed = bytearray(content)
    changed[place(content, rng)] ^= 1 << int(rng.integers(8))
    return bytes(changed)


def zeros(content: bytes, rng: Generator) -> bytes:
    start, length = place(content, rng), int(rng.choice([1, 8, 64, 512, 4096]))
    return content[:start] + bytes(min(length, len(content) - start)) + content[start + length :]


def noise(content: bytes, rng: Generator) -> bytes:
    start, length = place(content, rng), int(rng.choice([1, 8, 64, 512]))
    return content[:start] + rng.bytes(min(length, len(content) - start)) + content[start + length :]


def moved(content: bytes, rng: Generator) -> bytes:
    start = place(content, rng)
    return content[:start] + rng.bytes(int(rng.integers(1, 9))) + content[start:]


# damages of data sets


def lost(file: h5py.File, name: str, rng: Generator) -> None:
    del file[name]


def of_type(file: h5py.File, name: str, rng: Generator) -> None:
    n = len(file[name])
    others: list[Any] = [
        np.full(n, "text", dtype=object),
        np.full((n, 2), b"text"),
        np.ones(n, dtype=complex),
        np.ones(n, dtype=[("a", "f4"), ("b", "i4")]),
        np.ones(n, dtype=bool),
        h5py.Empty("f4"),
        np.float64(3),
    ]
    del file[name]
    kind = int(rng.integers(len(others) + 1))
    if kind < len(others):
        file[name] = others[kind]
        return
    ragged = file.create_dataset(name, (n,), dtype=h5py.vlen_dtype(np.float32))
    for i in range(n):
        ragged[i] = np.arange(i % 3)


def of_shape(file: h5py.File, name: str, rng: Generator) -> None:
    values = file[name][()]
    del file[name]
    others = (values[:-1], values[:0], values[None], values[..., None, None], values.T, values.ravel())
    file[name] = others[int(rng.integers(len(others)))]


def of_value(file: h5py.File, name: str, rng: Generator) -> None:
    values = file[name][()]
    if values.dtype.kind == "f":
        values = values.astype(np.float64)
        values[int(rng.integers(len(values)))] = rng.choice([np.nan, np.inf, -1.0, 1e39, 1e9])
        del file[name]
        file[name] = values


def as_group(file: h5py.File, name: str, rng: Generator) -> None:
    del file[name]
    file.create_group(name)


def unwritten(file: h5py.File, name: str, rng: Generator) -> None:
    shape, dtype = file[name].shape, file[name].dtype
    del file[name]
    rows = (10**9 if rng.random() < 0.5 else shape[0], *shape[1:])
    file.create_dataset(name, rows, dtype, chunks=(1 + shape[0] // 2, *shape[1:]))


def attribute(file: h5py.File, name: str, rng: Generator) -> None:
    values: tuple[Any, ...] = (
        "",
        "{}",
        "[1]",
        '{"kind": "cylinder"}',
        '{"kind": 3}',
        b"\xff",
        7,
        np.ones(3),
        "{" * 900,
    )
    key = str(rng.choice(["mesh", "provenance", "caloforge_format", "particle", "detector", "theta_deg"]))
    file.attrs[key] = values[int(rng.integers(len(values)))]


OF_BYTES = (cut, flip, flip, flip, zeros, zeros, noise, moved)
OF_SETS = (lost, of_type, of_shape, of_value, as_group, unwritten, attribute)


def damage(path: Path, target: Path, rng: Generator) -> tuple[str, bool]:
    """Make a damaged copy; what was done, and whether its numbers may differ from the original's."""
    if rng.random() < 0.6:
        change = OF_BYTES[int(rng.integers(len(OF_BYTES)))]
        target.write_bytes(change(path.read_bytes(), rng))
        return change.__name__, path.name != "ours.h5"
    shutil.copy(path, target)
    with h5py.File(target, "a") as file:
        edit = OF_SETS[int(rng.integers(len(OF_SETS)))]
        names = [name for name in file if isinstance(file[name], h5py.Dataset)]
        name = names[int(rng.integers(len(names)))]
        edit(file, name, rng)
    return f"{edit.__name__} {name}", True


def attempt(number: int, files: list[Path], expected: dict[Path, list[Any]], folder: Path) -> str:
    """One damage, from the number alone, and how it was read."""
    rng = np.random.default_rng(number)
    path = files[0] if rng.random() < 0.5 else files[int(rng.integers(len(files)))]
    target = folder / "damaged" / path.name
    what, may_differ = damage(path, target, rng)
    print(number, path.name, what, end=": ", flush=True)
    try:
        found = read(target)
    except CaloforgeError as error:
        return f"refused: {error}".replace("\n", " ")
    except Exception as error:
        return f"TRACEBACK {type(error).__name__}: {error}".replace("\n", " ")
    if same(found, expected[path]):
        return "right"
    return "right, of what it holds" if may_differ else "WRONG numbers"


def main(folder: Path, first: int, stop: int) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    warnings.simplefilter("error")
    (folder / "damaged").mkdir(exist_ok=True)
    files = make_files(folder)
    expected = {path: read(path) for path in files}
    for number in range(first, stop):
        print(attempt(number, files, expected, folder), flush=True)
    print("done", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
