"""Reports on every kind of mesh: complete, valid, self-contained and safe."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import matplotlib.pyplot as plt
import pytest
from report_results import FULL, everything
from report_samples import MESHES, make_showers

from caloforge.errors import DataError, MeshError, MissingDependencyError
from caloforge.evaluation import Evaluation
from caloforge.report import write_report
from caloforge.report.folder import earlier_figures
from caloforge.report.words import in_words

VOID = {"meta", "link", "img", "input", "br"}
OPTIONAL = {
    "Distances",
    "Where they differ",
    "Response and resolution",
    "Shower shapes",
    "Correlations",
    "By energy and direction",
    "Energy conservation",
    "Memorisation",
}


def listed(folder: Path) -> list[str]:
    return json.loads((folder / "figures" / "manifest.json").read_text())["files"]


class Page(HTMLParser):
    """Collects what the tests ask for and checks that every element is closed in turn."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.addresses: list[str] = []
        self.images: list[dict[str, str | None]] = []
        self.headings: list[str] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = dict(attrs)
        if tag not in VOID:
            self.open.append(tag)
        if named.get("id"):
            self.ids.append(str(named["id"]))
        self.addresses += [str(named[key]) for key in ("src", "href", "data", "action") if named.get(key)]
        if tag == "img":
            self.images.append(named)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in ("h1", "h2", "p", "td", "th", "li", "h3"):
            self.words.append(data)
        if self.open and self.open[-1] == "h2":
            self.headings.append(data)


@pytest.mark.parametrize("kind", MESHES)
def test_report_is_complete_and_loads_nothing(sample, kind):
    made = sample(kind)
    text = made.page.read_text(encoding="utf-8")
    page = Page(text)
    assert page.headings[1:4] == ["What differs, what agrees", "All numbers", "Warnings"]
    assert page.headings[0] == in_words(made.evaluation).verdict.headline
    assert page.headings[-1] == "Settings and origin"
    always = {"Classifiers", "Distributions", "Profiles", "Mean shower", "Single showers", "Time"}
    assert always <= set(page.headings)
    assert (set(page.headings) >= OPTIONAL) == (kind in FULL)
    assert bool(set(page.headings) & OPTIONAL) == (kind in FULL)
    assert len(page.ids) == len(set(page.ids))
    assert all(
        image["alt"] and str(image["src"]).startswith("data:image/png;base64,") for image in page.images
    )
    for address in page.addresses:
        assert address.startswith(("data:", "#", "figures/")) or address == "metrics.json", address
    assert Evaluation.read(made.page.parent / "metrics.json").counts == made.evaluation.counts
    linked = {address for address in page.addresses if address.startswith("figures/")} - {"figures/"}
    written = {f"figures/{path.name}" for path in (made.page.parent / "figures").iterdir()}
    assert linked == written - {"figures/manifest.json"}
    assert {f"figures/{name}" for name in listed(made.page.parent)} == linked
    assert all((made.page.parent / address).stat().st_size > 1000 for address in linked)
    assert {f"#{name}" for name in page.ids} >= {a for a in page.addresses if a.startswith("#")}
    style = text.partition("<style>")[2].partition("</style>")[0]
    assert not re.search(r"url\(|@import|https?:", style)
    assert text.count("plotly.js v") == 1
    assert "default-src 'none'" in text


def test_every_layer_is_shown(sample):
    names = {path.name for path in (sample("ragged-cylinder").page.parent / "figures").iterdir()}
    assert {
        "e_layer.pdf",
        "e_layer.png",
        "mean_shower_layers_1.pdf",
        "profiles.pdf",
        "deciding_3.pdf",
    } <= names
    assert "mean_shower_3.pdf" in names
    assert "mean_shower_3.pdf" not in {
        path.name for path in (sample("image").page.parent / "figures").iterdir()
    }


def test_text_from_outside_is_escaped(sample):
    text = sample("cylinder").page.read_text(encoding="utf-8")
    assert "Ours &lt;i&gt;&amp; theirs" in text
    assert "A &lt;b&gt;warning&lt;/b&gt; &amp; more." in text
    assert "<script>alert(1)" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert "a&lt;b&gt;&amp;c" in text


def test_numbers_of_the_summary_stand_in_the_page(sample):
    made = sample("cylinder")
    words = [w.replace("\u00a0", " ") for w in Page(made.page.read_text(encoding="utf-8")).words]
    ratio = made.evaluation.features["e_ratio"]
    shift = f"+{100 * (ratio.generated_mean / ratio.reference_mean - 1):.1f}"
    for expected in ("0.710 ± 0.010", "1\u202f800×", shift, "900 ms", "512 MiB"):
        assert any(expected in word for word in words), expected


def test_no_figure_is_left_with_pyplot(sample):
    sample("box")
    assert plt.get_fignums() == []


def test_nothing_is_overwritten_unless_allowed(sample, tmp_path):
    made = sample("image")
    with pytest.raises(DataError, match="exists"):
        write_report(
            made.evaluation, made.reference, made.generated, made.page.parent, progress=False, overwrite=False
        )
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(DataError, match="is a file"):
        write_report(made.evaluation, made.reference, made.generated, file, progress=False)


def test_samples_that_cannot_be_reported(sample, tmp_path):
    made = sample("image")
    other = make_showers(MESHES["box"], 5, 1)
    with pytest.raises(MeshError):
        write_report(made.evaluation, made.reference, other, tmp_path, progress=False)
    with pytest.raises(DataError, match="showers of both kinds"):
        write_report(made.evaluation, made.reference, made.generated[:0], tmp_path, progress=False)
    with pytest.raises(DataError, match="display_energy"):
        write_report(
            made.evaluation, made.reference, made.generated, tmp_path, display_energy=-1.0, progress=False
        )
    assert list(tmp_path.iterdir()) == []


def test_missing_package_is_named(sample, tmp_path, monkeypatch):
    made = sample("image")
    monkeypatch.setitem(sys.modules, "plotly", None)
    with pytest.raises(MissingDependencyError, match=r"caloforge\[report\]"):
        write_report(made.evaluation, made.reference, made.generated, tmp_path, progress=False)


def test_importing_the_room_loads_no_drawing_package():
    code = (
        "import sys, caloforge.report; "
        "sys.exit(bool({'matplotlib', 'plotly', 'mplhep', 'torch'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_stale_partial_page_does_not_stay(sample):
    assert not list(Path(sample("image").page.parent).glob("*.partial"))


def test_figures_of_an_earlier_report_go_and_other_files_stay(sample, tmp_path):
    made = sample("image")
    figures = tmp_path / "figures"
    figures.mkdir()
    for name in ("old.pdf", "old.png", "mine.pdf", "notes.txt", "../kept.png"):
        (figures / name).write_text("x")
    earlier = ["old.pdf", "old.png", "notes.txt", "../kept.png", "gone.pdf", 3]
    (figures / "manifest.json").write_text(json.dumps({"files": earlier}))
    write_report(made.evaluation, made.reference, made.generated, tmp_path, progress=False)
    names = {path.name for path in figures.iterdir()}
    assert names == set(listed(tmp_path)) | {"mine.pdf", "notes.txt", "manifest.json"}
    assert listed(tmp_path) == listed(made.page.parent)
    assert (tmp_path / "kept.png").exists()


@pytest.mark.parametrize("content", ["{", "[]", "{}"])
def test_a_damaged_list_of_figures_names_none(tmp_path, content):
    (tmp_path / "manifest.json").write_text(content)
    assert earlier_figures(tmp_path) == []


@pytest.mark.parametrize(
    ("kind", "key"), [("histograms", "group"), ("correlations", "name"), ("responses", "condition")]
)
def test_names_in_metrics_lead_nowhere_else(sample, tmp_path, kind, key):
    made = sample("box")
    layers = [h for h in made.evaluation.histograms if h.group == "e_layer"]
    few = everything(made.evaluation).replace(histograms=layers, classifiers={}, memorisation=None)
    plain = few.to_dict()
    for entry in plain[kind].values() if isinstance(plain[kind], dict) else plain[kind]:
        entry[key] = "../../../evil"
    evaluation, out = Evaluation.from_dict(plain), tmp_path / "a" / "b" / "out"
    shutil.copytree(made.page.parent, out)
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    (out / "figures.partial").mkdir()  # of a run that was killed
    (out / "figures.partial" / "half.png").write_text("x")
    with pytest.raises(DataError, match="cannot be the name of a figure"):
        write_report(evaluation, made.reference, made.generated, out, progress=False)
    assert not [path for path in tmp_path.rglob("*evil*") if out not in path.parents]
    left = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    assert left == before  # the report before this one is whole
