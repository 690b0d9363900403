"""Prints the licences of all packages that caloforge needs, from the metadata of those that are installed.

python tools/licences.py > docs/reference/licences.md        # or: make licences
"""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

PYPROJECT = Path(__file__).parents[1] / "pyproject.toml"
NAME = re.compile(r"(?P<name>[\w.-]+)\s*(\[(?P<extras>[^\]]*)\])?")
FOR_DEVELOPERS = ("all", "benchmark", "docs", "test", "dev")
"""What only tests, benchmarks and developers need is not listed."""
HEAD = """# Licences of what caloforge needs

caloforge is BSD-3-Clause. It contains no code of the packages below; pip installs them beside it. `make
licences` writes this page from what their installed versions say of themselves, here those for Linux and
CPUs. PyTorch's GPU builds also bring NVIDIA's libraries, under NVIDIA's licences; geant4-pybind contains
Geant4, under the Geant4 Software License, and what its file LICENSE-3RD-PARTY lists. "for" is what asks for
a package: caloforge itself, or one of its extras. What only tests, benchmarks and developers need is not
listed. `caloforge demo` puts npm's onnxruntime-web (MIT) beside its pages, with its licence.

| package | licence | for |
|---|---|---|
"""


@dataclass(frozen=True)
class Licence:
    """What a package says of itself."""

    package: str
    text: str
    wanted_by: tuple[str, ...]


def direct(pyproject: Path = PYPROJECT) -> dict[str, list[str]]:
    """Requirements of caloforge itself, under "", and of the extras for users."""
    project = tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]
    optional = project["optional-dependencies"]
    for_users = {extra: needs for extra, needs in optional.items() if extra not in FOR_DEVELOPERS}
    return {"": project["dependencies"], **for_users}


def licences(pyproject: Path = PYPROJECT) -> list[Licence]:
    """Of all packages that are needed, and those that they need; those installed, by name."""
    found: dict[str, tuple[Distribution, set[str]]] = {}
    for extra, requirements in direct(pyproject).items():
        for name in _closed(requirements):
            try:
                package = distribution(name)
            except PackageNotFoundError:
                continue  # of another system or version of Python, or an extra that is not installed
            found.setdefault(_plain(name), (package, set()))[1].add(extra)
    return [
        Licence(package.metadata["Name"], licence_of(package), tuple(sorted(wanted)))
        for _, (package, wanted) in sorted(found.items())
    ]


def licence_of(package: Distribution) -> str:
    """SPDX expression, else the field where it is no text, else trove classifiers, else a file's name.

    Empty where the metadata say nothing.
    """
    about = package.metadata
    if "License-Expression" in about:
        return str(about["License-Expression"])
    told = [line.strip() for line in (about.get("License") or "").splitlines() if line.strip()]
    if len(told) == 1 and told[0] != "UNKNOWN":
        return told[0]
    classifiers = [text for text in about.get_all("Classifier", []) if text.startswith("License ::")]
    if classifiers:
        return ", ".join(text.rpartition(" :: ")[2] for text in classifiers)
    files = about.get_all("License-File", [])
    return f"see its {files[0]}" if files else ""


def _closed(requirements: list[str]) -> Iterator[str]:
    """Names of packages and, of those installed, of what they need in turn; extras as they are asked for."""
    seen: set[tuple[str, str]] = set()
    queue = [(text, "") for text in requirements]
    while queue:
        text, extra = queue.pop()
        requirement, _, marker = text.partition(";")
        match = NAME.match(requirement.strip())
        if match is None or not _holds(marker, extra) or _plain(match["name"]) == "caloforge":
            continue
        yield match["name"]
        try:
            needs = distribution(match["name"]).requires or []
        except PackageNotFoundError:
            continue
        for inner in ("", *(name.strip() for name in (match["extras"] or "").split(",") if name)):
            if (key := (_plain(match["name"]), inner)) not in seen:
                seen.add(key)
                queue += [(need, inner) for need in needs]


def _holds(marker: str, extra: str) -> bool:
    """True for requirements without an extra, or of this one; those of other systems are not installed."""
    asked = re.search(r"""extra\s*==\s*["']([^"']+)["']""", marker)
    return asked is None if not extra else asked is not None and asked[1] == extra


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def page(found: list[Licence]) -> str:
    """As Markdown."""
    rows = [
        f"| {item.package} | {item.text or '**not told**'} | "
        f"{'caloforge' if '' in item.wanted_by else ', '.join(item.wanted_by)} |"
        for item in found
    ]
    return HEAD + "\n".join(rows) + "\n"


if __name__ == "__main__":
    every = licences()
    print(page(every), end="")
    silent = [item.package for item in every if not item.text]
    if silent:
        sys.exit(f"these say nothing of their licence: {', '.join(silent)}")
