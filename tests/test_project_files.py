"""What a project says of itself agrees with what it is: versions, papers, targets, links."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from caloforge.training import Recipe
from caloforge.training.recipe import RECIPES

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.skipif(not (ROOT / "CITATION.cff").exists(), reason="not in a source tree")
ARXIV = re.compile(r"(?<![\d.])(\d{4}\.\d{5})(?!\d)")
FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
PAGE = re.compile(r"(?<![\w/.-])docs/[\w/-]+\.(?:md|json)")
LINK = re.compile(r"\]\((?!https?:|#|mailto:)([^)#\s]+)(?:#[^)]*)?\)")


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def test_one_version() -> None:
    version = tomllib.loads(read("pyproject.toml"))["project"]["version"]
    assert f"\nversion: {version}\n" in read("CITATION.cff")
    assert f"\n## {version}" in read("CHANGELOG.md")


def test_papers_of_recipes_are_cited() -> None:
    cited = set(re.findall(r"value: \"arXiv:([^\"]+)\"", read("CITATION.cff")))
    named = {
        paper
        for name in Recipe.names()
        for paper in ARXIV.findall((RECIPES / f"{name}.toml").read_text(encoding="utf-8"))
    }
    assert len(named) > 15
    assert named <= cited


def test_workflows_call_targets_of_the_makefile() -> None:
    targets = set(re.findall(r"^([\w-]+):", read("Makefile"), re.MULTILINE))
    workflows = {path.name: path.read_text() for path in (ROOT / ".github/workflows").glob("*.yml")}
    called = {(name, target) for name, t in workflows.items() for target in re.findall(r"\bmake ([\w-]+)", t)}
    assert {target for _, target in called} >= {"test", "test-minimum", "wheel"}
    assert {(name, target) for name, target in called if target not in targets} == set()
    advised = set(re.findall(r"`make ([\w-]+)", read("CONTRIBUTING.md")))
    assert advised <= targets


def pages() -> list[Path]:
    """All texts of the project, those of the documentation, too."""
    return sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    links = LINK.findall(FENCE.sub("", page.read_text(encoding="utf-8")))
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_pages_that_are_named_exist() -> None:
    named = [
        (str(file.relative_to(ROOT)), page)
        for folder in ("src", "tests", "benchmarks", "tools", ".github")
        for file in (ROOT / folder).rglob("*.*")
        if file.suffix in {".py", ".md", ".yml", ".toml"}
        for page in PAGE.findall(file.read_text(encoding="utf-8"))
    ]
    assert len(named) > 30
    assert [(file, page) for file, page in named if not (ROOT / page).exists()] == []


def test_the_table_of_formats_is_that_of_the_code() -> None:
    from caloforge.bench.results import BenchResult
    from caloforge.campaign import record
    from caloforge.checkpoint import folder
    from caloforge.data.formats.base import FORMAT_VERSION
    from caloforge.data.pixels import file
    from caloforge.evaluation.results import Evaluation, ModelComparison, PixelEvaluation

    numbers = [
        ("showers, HDF5", FORMAT_VERSION),
        ("pixel events, HDF5", file.VERSION),
        ("checkpoint, a folder", folder.FORMAT_VERSION),
        ("`metrics.json`", Evaluation.layout),
        ("`metrics.json` of pixel events", PixelEvaluation.layout),
        ("`comparison.json`", ModelComparison.layout),
        ("`bench`", BenchResult.layout),
        ("campaign, `campaign.json` and seals", record.FORMAT.removeprefix("caloforge campaign ")),
    ]
    page = read("docs/reference/stability.md")
    for kind, number in numbers:
        assert re.search(rf"^\| {re.escape(kind)} \| [^|]+ \| {number} \|", page, re.MULTILINE), kind
