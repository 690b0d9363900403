"""Writes the numbers of README and front page anew, from the results that are kept in docs/results.

python tools/page_numbers.py            # or: make numbers

Between ``<!-- numbers: NAME -->`` and ``<!-- end -->`` stands what NAME gives: "families" a table of all or
of those named after it, "families.all" all that is known of them, "families.about" where, "ild" the table
of the ILD, "measured" all rows of measured.json or those named, "profiles.showers" and "profiles.events" what
the pictures of families show, "families.FAMILY.ms" and the like single numbers.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT / "benchmarks"))
from family_table import RIGHT, table  # noqa: E402

RESULTS = ROOT / "docs/results"
BLOCK = re.compile(r"(<!-- numbers: ([^>]*?) -->)(.*?)(<!-- end -->)", re.DOTALL)
Row = Mapping[str, Any]


def read(name: str) -> Any:
    return json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))


def fastest(row: Row) -> float:
    """Least time of a shower of all batch sizes, ms."""
    return min(ms for ms in row["ms"].values() if ms is not None)


NUMBERS: dict[str, Callable[[Row], str]] = {
    "ms": lambda row: f"{float(f'{fastest(row):.2g}'):g}",
    "speed": lambda row: f"{row['geant4_ms'] / fastest(row):,.0f}",
    "geant4": lambda row: f"{row['geant4_ms']:.0f}",
    "boosted": lambda row: "{:.2f} ± {:.2f}".format(*row["strong"]["boosted"]["auc"]),
    "high": lambda row: "{:.2f} ± {:.2f}".format(*row["strong"]["high"]["auc"]),
    "response": lambda row: "{:.3f} to {:.3f}".format(*row["response"]),
    "memory": lambda row: f"{row['memory_mib']:.0f}",
}


def markdown(lines: Sequence[Sequence[str]]) -> str:
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def families(rows: Mapping[str, Row], names: list[str]) -> str:
    """The families by how well boosted trees tell them, best first, with Geant4 itself."""
    heads = ("family", "is", "AUC, boosted trees", "AUC, high-level", "ms a shower", "× Geant4")
    lines = [heads, ("---",) * len(heads)]
    for name, row in sorted(rows.items(), key=lambda item: item[1]["strong"]["boosted"]["auc"][0]):
        if names and name not in (*names, RIGHT):
            continue
        timed = [NUMBERS[key](row) if "ms" in row else "" for key in ("ms", "speed")]
        lines.append((name, row["kind"], NUMBERS["boosted"](row), NUMBERS["high"](row), *timed))
    return markdown(lines)


def where(rows: Mapping[str, Row]) -> str:
    """Where and when rows were measured, those of most of them first."""
    places: dict[str, list[str]] = {}
    for name, row in rows.items():
        place = "{machine}, {date}, commit ".format(**row["about"]) + row["about"]["commit"][:7]
        places.setdefault(place, []).append(name)
    first, *others = sorted(places, key=lambda place: -len(places[place]))
    return "; ".join([first, *(f"{', '.join(places[place])}: {place}" for place in others)])


def measured(kept: Mapping[str, Any], names: list[str]) -> str:
    """Rows of measured.json with the command that measures them, all of them if none is named."""
    rows = {row["key"]: row for row in kept["rows"]}
    lines = ["| what | measured | by | noted |", "|---|---|---|---|"]
    for row in (rows[name] for name in names or rows):
        noted = row["noted"]
        lines.append(
            f"| {row['what']} | {row['measured']} | {row['by']} | {noted['date']}, {noted['commit'][:7]} |"
        )
    return "\n".join(lines)


def ild(kept: Mapping[str, Any]) -> str:
    """Systems that were trained for as long on photons in the ILD, and where."""
    heads = kept["heads"]
    told = "{minutes:g} minutes each by a first estimate (the last column says how long it was), {machine}; "
    told += "{learned from:,} photons to learn from, {judged on:,} "
    told += "others to judge by; {date}, commit {commit:.7}."
    return f"{markdown([heads, ['---'] * len(heads), *kept['rows']])}\n\n{told.format(**kept['about'])}"


def rendered(wanted: str) -> str:
    """What a mark asks for."""
    name, *rest = wanted.split()
    if name == "measured":
        return f"\n\n{measured(read('measured'), rest)}\n\n"
    if name == "ild":
        return f"\n\n{ild(read('ild'))}\n\n"
    if name.startswith("profiles."):
        about = read("profiles")["about"]
        made = about[name.removeprefix("profiles.")]
        return f"Grey: Geant4, line: made. {made}; {about['date']}, commit {about['commit'][:7]}"
    results = read("families")
    if name == "families":
        return f"\n\n{families(results['rows'], rest)}\n\n"
    if name == "families.about":
        return where(results["rows"])
    if name == "families.all":
        return f"\n\n{table(results['rows'], results['neighbours of Geant4'])}\n"
    _, family, number = name.split(".")
    return NUMBERS[number](results["rows"][family])


def with_numbers(text: str) -> str:
    """A page with its numbers as the results have them."""
    return BLOCK.sub(lambda mark: mark[1] + rendered(mark[2]) + mark[4], text)


def pages() -> list[Path]:
    """All that have such marks."""
    return [
        page
        for page in (ROOT / "README.md", *sorted(ROOT.glob("docs/**/*.md")))
        if BLOCK.search(page.read_text(encoding="utf-8"))
    ]


if __name__ == "__main__":
    for page in pages():
        page.write_text(with_numbers(page.read_text(encoding="utf-8")), encoding="utf-8")
