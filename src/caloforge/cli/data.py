"""``caloforge data``: look into, convert, split, merge and download files of showers."""

from __future__ import annotations

import re
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from caloforge.cli import pixels
from caloforge.cli.options import AllowCode, AllowExternal, Ignore, MeshName, Overwrite
from caloforge.cli.output import console, say, warn
from caloforge.errors import DataError
from caloforge.runtime.progress import Display
from caloforge.runtime.provenance import provenance
from caloforge.runtime.streams import checked_seed
from caloforge.runtime.structured import json_text

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from caloforge.data import Showers, ShowerWriter
    from caloforge.data.pixels import PixelEvents, PixelWriter

__all__ = ["app"]

app = typer.Typer(
    help="Look into, convert, split, merge and download files of showers or pixel events.",
    no_args_is_help=True,
)

LayoutName = Annotated[
    str,
    typer.Option(
        help="caloforge; calochallenge: the two data sets of the challenge and nothing else; convert also "
        "writes ROOT (ttree, rntuple; ttree-hits, rntuple-hits), showerdata (point clouds), features "
        "(Parquet, Arrow), and png of pixel events (folders of images)."
    ),
]


@app.command()
def info(
    paths: Annotated[list[Path], typer.Argument(help="Files of showers, of any layout.")],
    check: Annotated[bool, typer.Option("--check", help="Read and check every shower.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
    mesh: MeshName = None,
    ignore: Ignore = None,
    allow_external: AllowExternal = False,
    allow_code: AllowCode = None,
) -> None:
    """Say what is in files of showers."""
    from caloforge.data import describe, layout_of, open_showers

    results = []
    for path in paths:
        if pixels.are_events([path], {"mesh": mesh, "ignore": ignore, "allow_external": allow_external}):
            results.append(pixels.info(path, check))
            if not as_json:
                pixels.print_table(results[-1])
            continue
        showers = open_showers(path)
        with Display() as show:
            facts = describe(showers, everything=check, progress=partial(show, f"reading {path.name}"))
        facts = {"file": str(path), "layout": layout_of(path), "checked": check} | facts
        results.append(facts | {"provenance": showers.provenance})
        if not as_json:
            _print_table(results[-1])
    if as_json:
        print(json_text(results if len(results) > 1 else results[0], indent=2))


@app.command()
def convert(
    source: Annotated[Path, typer.Argument(help="A file of showers, of any layout.")],
    target: Annotated[Path, typer.Argument(help="The file to write.")],
    mesh: MeshName = None,
    coarsen: Annotated[
        str | None, typer.Option(help="Cells to join along (z, φ, r) or (z, y, x), for example 1,2,3.")
    ] = None,
    energy: Annotated[
        str | None,
        typer.Option(help="Keep incident energies in [LOW, HIGH) MeV, as LOW:HIGH; either may lack."),
    ] = None,
    detector: Annotated[
        str | None,
        typer.Option(help="Keep the showers in this detector; of images, the pixel detector they are of."),
    ] = None,
    layout: LayoutName = "caloforge",
    compression: Annotated[int, typer.Option(min=0, max=9, help="gzip level.")] = 1,
    ignore: Ignore = None,
    allow_external: AllowExternal = False,
    overwrite: Overwrite = False,
    allow_code: AllowCode = None,
) -> None:
    """Write showers in caloforge's own layout, which readers of the CaloChallenge's can read, or another."""
    import caloforge.evaluation.feature_file  # noqa: F401  (which is one of the exports)
    from caloforge.data import coarsened, open_showers
    from caloforge.data.exports import EXPORTS

    for_showers = {"mesh": mesh, "coarsen": coarsen, "energy": energy, "ignore": ignore}
    if pixels.are_events([source], for_showers | {"allow_external": allow_external}):
        how = {"compression": compression, "overwrite": overwrite}
        pixels.convert(source, target, layout, detector, **how)
        return
    showers = open_showers(source)
    found = len(showers)
    if energy is not None or detector is not None:
        showers = showers.filter(energy=None if energy is None else _span(energy), detector=detector)
        if not len(showers):
            detectors = ", ".join(sorted(set(open_showers(source).conditions.detector.tolist())))
            raise DataError(
                f"none of the {found} showers in {source} is left; its detectors are: {detectors}"
            )
    if coarsen is not None:
        showers = coarsened(showers, _factors(coarsen))
    settings = {"source": source.name, "coarsen": coarsen, "energy": energy, "detector": detector}
    if layout in EXPORTS.names():
        made_by = provenance("convert", **settings) | {"source": showers.provenance}
        with Display("showers") as show:
            progress = partial(show, f"writing {target.name}")
            EXPORTS[layout](showers, target, provenance=made_by, overwrite=overwrite, progress=progress)
    else:
        _write(showers, target, "convert", settings, overwrite, layout=layout, compression=compression)
    before, after = (path.stat().st_size / 2**20 for path in (source, target))
    say(
        f"{len(showers)} of {found} showers on a {showers.mesh} → {target} "
        f"({before:.2f} MiB → {after:.2f} MiB)"
    )


@app.command()
def split(
    source: Annotated[Path, typer.Argument(help="A file of showers, of any layout.")],
    parts: Annotated[
        str, typer.Option(help="Fractions (0.8,0.2) or numbers of showers (6000,600).")
    ] = "0.8,0.2",
    names: Annotated[str | None, typer.Option(help="Names of the parts, for example train,test.")] = None,
    folder: Annotated[Path | None, typer.Option(help="Where to write; by default beside the source.")] = None,
    seed: Annotated[
        int | None, typer.Option(help="Shuffle before splitting; without it the order is kept.")
    ] = None,
    mesh: MeshName = None,
    layout: LayoutName = "caloforge",
    ignore: Ignore = None,
    allow_external: AllowExternal = False,
    overwrite: Overwrite = False,
    allow_code: AllowCode = None,
) -> None:
    """Split a file into disjoint parts, named SOURCE_NAME.h5."""
    from caloforge.data import open_showers
    from caloforge.data.pixels import open_events

    for_showers = {"mesh": mesh, "ignore": ignore, "allow_external": allow_external}
    events = pixels.are_events([source], for_showers)
    showers: Showers | PixelEvents = open_events(source) if events else open_showers(source)
    what = "events" if events else "showers"
    pieces = [showers[rows] for rows in _parts(len(showers), parts, seed, what)]
    labels = names.split(",") if names else [f"part{i + 1}" for i in range(len(pieces))]
    if len(labels) != len(pieces) or len(set(labels)) != len(labels) or not all(map(_is_label, labels)):
        raise DataError(
            f"{len(pieces)} parts need as many different names of letters and digits, got {labels}"
        )
    targets = [(folder or source.parent) / f"{source.stem}_{label}.h5" for label in labels]
    with ExitStack() as all_or_none:
        writers: list[Any] = []
        for piece, target in zip(pieces, targets, strict=True):
            settings = {"source": source.name, "parts": parts, "seed": seed, "part": target.stem}
            writer = _writer(piece, target, "split", settings, overwrite=overwrite, layout=layout)
            writers.append(all_or_none.enter_context(writer))
        for writer, piece in zip(writers, pieces, strict=True):
            pixels.fill(writer, piece)
    for piece, target in zip(pieces, targets, strict=True):
        say(f"{len(piece)} {what} → {target}")


@app.command()
def merge(
    target: Annotated[Path, typer.Argument(help="The file to write.")],
    sources: Annotated[list[Path], typer.Argument(help="Files of showers on the same mesh, in this order.")],
    mesh: MeshName = None,
    layout: LayoutName = "caloforge",
    ignore: Ignore = None,
    allow_external: AllowExternal = False,
    overwrite: Overwrite = False,
    allow_code: AllowCode = None,
) -> None:
    """Join files of showers on the same mesh."""
    from caloforge.data import Showers, open_showers
    from caloforge.data.alike import require_alike

    if pixels.are_events(sources, {"mesh": mesh, "ignore": ignore, "allow_external": allow_external}):
        pixels.merge(target, sources, layout, overwrite)
        return
    opened = [open_showers(path) for path in sources]
    for path, showers in zip(sources, opened, strict=True):
        opened[0].require_same_cells(showers, f"{path} cannot be joined to {sources[0]}")
        if (showers.conditions.impact is None) != (opened[0].conditions.impact is None):
            raise DataError(
                f"of {sources[0]} and {path} only one has impact points, so they cannot be joined"
            )
    for said in require_alike(list(zip(map(str, sources), opened, strict=True))):
        warn(said)
    merged = Showers.concatenate(opened)
    dropped = sorted(set().union(*(showers.extra for showers in opened)) - set(merged.extra))
    if dropped:
        warn(f"columns that not all files have are left out: {', '.join(dropped)}")
    settings = {"sources": [path.name for path in sources]}
    _write(merged, target, "merge", settings, overwrite, layout=layout)
    say(f"{len(merged)} showers of {len(sources)} files → {target}")


@app.command()
def download(
    name: Annotated[
        str | None, typer.Argument(help="A data set or one of its files; without it, a list.")
    ] = None,
    folder: Annotated[Path, typer.Option(help="Where to put the files.")] = Path(),
    base_url: Annotated[
        str | None, typer.Option(help="A mirror: the address of a folder that holds the files.")
    ] = None,
) -> None:
    """Download public data sets, resuming where an earlier attempt broke off."""
    from caloforge.data.catalogue import CATALOGUE
    from caloforge.data.download import download as fetch

    if name is None:
        for data_set in dict.fromkeys(file.data_set for file in CATALOGUE):
            files = [file for file in CATALOGUE if file.data_set == data_set]
            pinned = "pinned" if all(file.checksum for file in files) else "not known"
            how = f"checksum {pinned}" if files[0].url else "to be downloaded by hand"
            say(f"{data_set}  ({how}, {files[0].page})")
            for file in files:
                say(f"    {file.name}")
        return
    with Display("B") as show:
        paths = fetch(name, folder, base_url=base_url, progress=show, warn=warn)
    for path in paths:
        say(str(path))


def _write(
    showers: Showers, target: Path, action: str, settings: dict[str, Any], overwrite: bool, **how: Any
) -> None:
    with _writer(showers, target, action, settings, overwrite=overwrite, **how) as writer:
        pixels.fill(writer, showers)


def _writer(
    showers: Showers | PixelEvents, target: Path, action: str, settings: dict[str, Any], **how: Any
) -> ShowerWriter | PixelWriter:
    from caloforge.data import Showers, ShowerWriter

    if not isinstance(showers, Showers):
        return pixels.writer(showers, target, action, settings, **how)
    made_by = provenance(action, **settings) | {"source": showers.provenance}
    return ShowerWriter(target, showers.mesh, provenance=made_by, **how)


def _parts(n: int, parts: str, seed: int | None, what: str) -> list[NDArray[np.int64]]:
    import numpy as np

    from caloforge.data.chosen import split_rows

    seed = None if seed is None else checked_seed(seed)
    try:
        sizes = [float(text) for text in parts.split(",")]
    except ValueError as error:
        raise DataError(f"--parts must be numbers, like 0.8,0.2 or 6000,600, got {parts!r}") from error
    if max(sizes) <= 1 and sum(sizes) <= 1 + 1e-9:
        return split_rows(n, sizes, seed)
    if not all(size >= 1 and size.is_integer() for size in sizes) or sum(sizes) > n:
        raise DataError(
            f"--parts {parts}: fractions must add up to at most 1, and numbers of {what} be whole and add "
            f"up to at most {n}"
        )
    left = n - int(sum(sizes))
    if left and sum(sizes) == 100:
        raise DataError(
            f"--parts {parts} are numbers of {what} and leave out {left} of {n}; for percentages "
            f"write {','.join(f'{size / 100:g}' for size in sizes)}"
        )
    if left:
        warn(f"{left} of the {n} {what} are in none of the parts {parts}")
    shuffled = None if seed is None else np.random.default_rng(seed)
    order = np.arange(n) if shuffled is None else shuffled.permutation(n)
    stops = np.cumsum(sizes).astype(int).tolist()
    return [np.sort(order[a:b]) for a, b in zip([0, *stops[:-1]], stops, strict=True)]


def _is_label(text: str) -> bool:
    return re.fullmatch(r"[\w.-]+", text) is not None


def _span(text: str) -> tuple[float, float]:
    low, colon, high = text.partition(":")
    try:
        if not colon:
            raise ValueError("no colon")
        return float(low or 0), float(high or "inf")
    except ValueError as error:
        raise DataError(f"--energy must be LOW:HIGH in MeV, like 1000:50000, got {text!r}") from error


def _factors(text: str) -> tuple[int, int, int]:
    try:
        a, b, c = (int(part) for part in text.split(","))
    except ValueError as error:
        raise DataError(f"--coarsen must be three whole numbers, like 1,2,3, got {text!r}") from error
    return a, b, c


def _print_table(facts: dict[str, Any]) -> None:
    def span(key: str, unit: str) -> str:
        low, high = facts[key]
        return f"{low:.6g} {unit}" if low == high else f"{low:.6g} to {high:.6g} {unit}"

    table = Table(title=escape(facts["file"]), show_header=False)
    rows = [("layout", facts["layout"]), ("showers", f"{facts['showers']}")]
    rows.append(("mesh", f"{facts['mesh']} [{facts['mesh_fingerprint']}]"))
    if facts["showers"]:
        discrete = f" ({len(facts['discrete_energies'])} values)" if "discrete_energies" in facts else ""
        rows += [
            ("incident energy", span("energy", "MeV") + discrete),
            ("θ, φ", f"{span('theta', 'rad')}, {span('phi', 'rad')}"),
            ("particles", ", ".join(facts["particle"])),
            ("detectors", ", ".join(name or "unknown" for name in facts["detector"])),
        ]
        (mean, error), (low, high) = facts["response"], facts["cell_energy"]
        rows += [
            ("ΣE/E_inc", f"{mean:.4f}" + ("" if error is None else f" ± {error:.4f}")),
            ("sparsity", f"{facts['sparsity']:.4f}"),
            ("cell energies > 0", "none" if low is None else f"{low:.4g} to {high:.4g} MeV"),
            ("looked at", f"{'all' if facts['checked'] else facts['looked_at']} showers"),
        ]
    if facts["columns"]:
        rows.append(("further columns", ", ".join(facts["columns"])))
    provenance_text = json_text(facts["provenance"])
    rows.append(
        ("provenance", provenance_text if len(provenance_text) < 600 else provenance_text[:597] + "…")
    )
    for name, value in rows:
        table.add_row(name, escape(value))
    console.print(table)
    if facts["checked"]:
        say(f"all {facts['showers']} showers are readable, finite and not negative")
