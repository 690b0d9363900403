"""The tables of the page of pixel events."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from caloforge.evaluation.results import PixelEvaluation, Quantity, SensorNetworkRecord
from caloforge.report.tables import Cell, Row, Table, numbers_table, settings, signed
from caloforge.report.words.pixels import event_rows, values_text
from caloforge.report.words.significance import among, significance
from caloforge.report.words.text import lowered, number, percent, raised, scatter_percent

__all__ = ["groups", "network", "numbers", "origins", "timing"]

_ORIGINS = {"reference": "Geant4 events", "generated": "Generated events"}


def numbers(evaluation: PixelEvaluation, *, key: bool = False) -> Table:
    """Every single number beside Geant4's or its floor, or those of the first screen."""
    return numbers_table(event_rows(evaluation), key=key)


def groups(evaluation: PixelEvaluation) -> list[Table]:
    """Every quantity, group by group."""
    found: dict[str, list[Quantity]] = {}
    for quantity in evaluation.quantities.values():
        found.setdefault(quantity.group, []).append(quantity)
    head = ("Quantity", "Geant4", "Generated", "Difference", "Halves of Geant4", "In σ")
    return [
        Table(group.capitalize(), head, [_row(q, len(part)) for q in part], scrolls=group)
        for group, part in found.items()
    ]


def _row(quantity: Quantity, n: int) -> Row:
    """One of ``n`` quantities of a group; marked where it differs with their number accounted for."""
    sigmas = quantity.sigmas()
    return (
        raised(quantity.label),
        values_text(quantity, generated=False),
        values_text(quantity, generated=True),
        percent(quantity.relative, quantity.error),
        scatter_percent(quantity.floor),
        Cell(signed(sigmas), "beyond" if significance(among(abs(sigmas), n)).says == "told apart" else ""),
    )


def network(record: SensorNetworkRecord) -> Table:
    """The network behind FID and KID."""
    rows = [
        ("Names the sensor of a true image it has not seen", percent(record.accuracy, signed=False)),
        ("Names layer and end of the ladder", percent(record.accuracy_end, signed=False)),
        ("Names the sensor of a generated image", percent(record.accuracy_generated, signed=False)),
        ("Images judged", number(record.held_out)),
        ("Images seen in training", f"{number(record.images)} of {number(record.events)} events"),
        ("Weights, features", f"{number(record.parameters)}, {number(record.features)}"),
        ("Time to train", f"{number(record.seconds, 2)} s"),
    ]
    return Table("The network that tells sensors apart", ("Quantity", "Value"), rows)


def timing(evaluation: PixelEvaluation) -> Table:
    """Time an event, where it is known."""
    times = evaluation.timing
    rows = [
        (name, f"{number(ms)} ms")
        for name, ms in (("Geant4", times.get("geant4_ms")), ("Generator", times.get("generator_ms")))
        if ms is not None
    ]
    return Table("Time an event", ("Sample", "CPU time"), rows)


def origins(evaluation: PixelEvaluation, report: Mapping[str, Any]) -> list[tuple[str, Table]]:
    """Where the samples, the evaluation and the report come from."""
    tables = []
    for name, record in {**evaluation.provenance, "report": report}.items():
        title = _ORIGINS.get(name, name.capitalize())
        known = record if isinstance(record, Mapping) else {name: record}
        tables.append((title, settings(f"Origin: {lowered(title)}", known)))
    return tables
