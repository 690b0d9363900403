"""The documentation holds together without being built: every page is in a list, what it includes exists."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[1] / "docs"
TOCTREE = re.compile(r"^```\{toctree\}\n(.*?)^```", re.MULTILINE | re.DOTALL)
pytestmark = pytest.mark.skipif(not DOCS.exists(), reason="not in a source tree")


def listed(page: Path) -> list[Path]:
    """Pages of the lists on a page."""
    entries = [
        line.strip()
        for block in TOCTREE.findall(page.read_text(encoding="utf-8"))
        for line in block.splitlines()
        if line.strip() and not line.startswith(":")
    ]
    return [(page.parent / f"{entry}.md").resolve() for entry in entries]


def test_every_page_is_in_one_list() -> None:
    pages = sorted(DOCS.rglob("*.md"))
    entries = [entry for page in pages for entry in listed(page)]
    assert len(entries) > 50
    assert sorted([DOCS / "index.md", *entries]) == pages


def test_numbers_are_those_of_the_results(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(DOCS.parent / "tools")
    tool = import_module("page_numbers")
    pages = tool.pages()
    assert {page.name for page in pages} >= {"README.md", "index.md", "measured.md", "showertree.md"}
    for page in pages:
        text = page.read_text(encoding="utf-8")
        assert tool.with_numbers(text) == text, f"{page} is older than docs/results: make numbers"
    changed = tool.read("families")
    changed["rows"]["showertree"]["geant4_ms"] *= 2
    monkeypatch.setattr(tool, "read", lambda name: changed)
    mark = "<!-- numbers: families.showertree.speed -->170<!-- end -->"
    assert tool.with_numbers(mark) != mark
