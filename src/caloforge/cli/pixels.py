"""What commands that are of showers do with pixel events."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.markup import escape
from rich.table import Table

from caloforge.cli.output import console, say
from caloforge.errors import ConditionError, DataError
from caloforge.runtime.progress import Display
from caloforge.runtime.provenance import provenance
from caloforge.runtime.structured import json_text

if TYPE_CHECKING:
    from caloforge.data.hdf5_writer import HDF5Writer
    from caloforge.data.pixels import PixelEvents, PixelWriter

__all__ = ["are_events", "convert", "evaluate", "fill", "info", "merge", "require_background", "writer"]

IMAGES = "png"


def are_events(paths: Sequence[Path], given: dict[str, Any]) -> bool:
    """Whether files hold pixel events; DataError where only some do, or options are of showers alone."""
    from caloforge.data.pixels import holds_events

    holding = [path for path in paths if holds_events(path)]
    if not holding:
        return False
    if len(holding) < len(paths):
        others = ", ".join(str(path) for path in paths if path not in holding)
        raise DataError(
            f"{holding[0]} holds pixel events, and {others} does not; they cannot be treated as one"
        )
    options = _flags(name for name, value in given.items() if value)
    if options:
        raise DataError(f"{holding[0]} holds pixel events, for which {options} has no meaning")
    return True


def require_background(given: Iterable[str], events: str) -> None:
    """ConditionError where options are given that say which showers to make; ``events`` are made instead."""
    options = _flags(given)
    if options:
        raise ConditionError(
            f"{events} are beam background: {options} have no meaning there; --rate says how much background"
        )


def _flags(names: Iterable[str]) -> str:
    return ", ".join(f"--{name.replace('_', '-')}" for name in names)


def info(path: Path, check: bool) -> dict[str, Any]:
    """What is in a file of events, JSON-able."""
    from caloforge.data.pixels import open_events
    from caloforge.data.pixels.operations import describe_events

    events = open_events(path)
    with Display("events") as show:
        facts = describe_events(events, everything=check, progress=partial(show, f"reading {path.name}"))
    layout = "images" if path.is_dir() else "caloforge pixels"
    return {"file": str(path), "layout": layout, "checked": check} | facts | {"provenance": events.provenance}


def print_table(facts: dict[str, Any]) -> None:
    """Print what `info` gives."""
    table = Table(title=escape(facts["file"]), show_header=False)
    rows = [("layout", facts["layout"]), ("events", str(facts["events"]))]
    rows.append(("detector", f"{facts['detector']}, {' × '.join(map(str, facts['cells']))} cells"))
    for name, span in facts["rates"].items():
        rows.append((f"rate of {name}", "unknown" if span is None else f"{span[0]:.4g} to {span[1]:.4g}"))
    if facts["looked_at"]:
        rows.append(("pixels an event", f"{facts['pixels']:.0f}"))
        rows += [(f"occupancy, layer {i}", f"{x:.4f} %") for i, x in enumerate(facts["occupancy"], 1)]
        if facts["charge"] is not None:
            least, mean, most = facts["charge"]
            rows.append(("charge", f"{least} to {most}, mean {mean:.2f} ADU"))
        rows.append(("looked at", f"{'all' if facts['checked'] else facts['looked_at']} events"))
    if facts["columns"]:
        rows.append(("further columns", ", ".join(facts["columns"])))
    text = json_text(facts["provenance"])
    rows.append(("provenance", text if len(text) < 600 else text[:597] + "…"))
    for name, value in rows:
        table.add_row(name, escape(value))
    console.print(table)
    if facts["checked"]:
        say(f"all {facts['events']} events are readable and legal")


def convert(source: Path, target: Path, layout: str, detector: str | None, **how: Any) -> None:
    """Write events in caloforge's layout, or as folders of images."""
    from caloforge.data.pixels import open_events, write_images
    from caloforge.detector.pixel import PixelDetector

    events = open_events(source, None if detector is None else PixelDetector.load(detector))
    if layout == IMAGES:
        with Display("events") as show:
            progress = partial(show, f"writing {target.name}")
            write_images(events, target, overwrite=how["overwrite"], progress=progress)
    else:
        with writer(events, target, "convert", {"source": source.name}, layout=layout, **how) as opened:
            fill(opened, events)
    say(f"{len(events)} events of {events.detector.name} → {target}")


def merge(target: Path, sources: Sequence[Path], layout: str, overwrite: bool) -> None:
    """Join events of one detector."""
    from caloforge.data.pixels import PixelEvents, open_events
    from caloforge.data.pixels.operations import require_different

    opened = [open_events(path) for path in sources]
    for path, events in zip(sources, opened, strict=True):
        events.require_like(opened[0], f"{path} cannot be joined to {sources[0]}")
    require_different(list(zip(map(str, sources), opened, strict=True)))
    merged, settings = PixelEvents.concatenate(opened), {"sources": [path.name for path in sources]}
    with writer(merged, target, "merge", settings, layout=layout, overwrite=overwrite) as file:
        fill(file, merged)
    say(f"{len(merged)} events of {len(sources)} files → {target}")


def evaluate(
    reference: Path, generated: Path, out: Path, *, report: bool, overwrite: bool, **how: Any
) -> None:
    """Judge generated events: metrics.json, figures and a page."""
    from caloforge.data.pixels import open_events
    from caloforge.report import evaluate_events, summary

    truth = open_events(reference)
    candidate = open_events(generated, truth.detector)
    result = evaluate_events(truth, candidate, out=out, overwrite=overwrite, **how)
    console.print(summary(result))
    if report:
        from caloforge.report import write_event_report

        page = write_event_report(result, truth, candidate, out, overwrite=overwrite)
        say(f"report → {page}")


def writer(
    events: PixelEvents, target: Path, action: str, settings: dict[str, Any], *, layout: str, **how: Any
) -> PixelWriter:
    """What writes events, with a record of what was done with them."""
    from caloforge.data.pixels import PixelWriter

    if layout != "caloforge":
        raise DataError(
            f"layout {layout!r} is none of pixel events: caloforge, or {IMAGES} (of caloforge data convert)"
        )
    made = provenance(action, **settings) | {"source": events.provenance}
    return PixelWriter(target, events.detector, events.conditions.sources, provenance=made, **how)


def fill(file: HDF5Writer, source: Any) -> None:
    """Write all showers or events."""
    with Display(file.what) as show:
        file.append_all(source, partial(show, f"writing {file.path.name}"))
