"""The page of a comparison: complete, self-contained, safe and honest about what was not measured."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import pytest
from chromium import complaints, needs_chromium, show, start, wait
from report_samples import MESHES, classifier, make_showers
from test_report_files import Page

from caloforge.data import Showers
from caloforge.detector import CylinderMesh
from caloforge.errors import DataError, MissingDependencyError
from caloforge.evaluation import ModelComparison
from caloforge.evaluation.comparison.published import published_results
from caloforge.evaluation.comparison.ranking import metrics_of
from caloforge.report import compare
from caloforge.report.comparison import write_comparison
from caloforge.report.figures.histograms import chosen_layers
from caloforge.report.figures.style import COLOURS, model_styles

NAMES = ("first", "second (b)", "third")
GROUPS = ("e_ratio", "cell_energy", "e_layer", "width_r")
"""The histograms that are drawn: ticks of many panels take long."""


def make(kind: str) -> ModelComparison:
    """Three models on a mesh, two of them with times, with AUCs put in."""
    mesh = MESHES[kind]
    reference = make_showers(mesh, 60, 1)
    samples: dict[str, Any] = {}
    for i, name in enumerate(NAMES):
        made = make_showers(mesh, 60, 2 + i, 1 + 0.1 * i)
        speed = {"performance": {"ms_per_shower": 2.0 / (i + 1)}} if i < 2 else {}
        samples[name] = Showers(
            made.energies, made.conditions, mesh, {**speed, "note": "<script>alert(1)</script>"}
        )
    made = compare(reference, samples, classifiers="none", distances=False, progress=False)
    fewer = {
        name: e.replace(histograms=[h for h in e.histograms if h.group in GROUPS])
        for name, e in made.evaluations.items()
    }
    return made.replace(evaluations=fewer)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[ModelComparison, Path]:
    """A comparison with AUCs and published rows, and its page."""
    made = make("cylinder")
    models = []
    for model, auc in zip(made.models, (0.55, 0.7, 0.9), strict=True):
        evaluation = made.evaluations[model.name].replace(classifiers={"low": classifier("low", auc)})
        models.append(model.replace(metrics=metrics_of(evaluation)))
    from caloforge.evaluation.comparison.ranking import pareto_names
    from caloforge.report.words.columns import table_columns

    columns = table_columns({m.name: m.metrics for m in models})
    set_2 = CylinderMesh.regular(n_z=45, n_phi=16, n_r=9)
    made = made.replace(
        models=models,
        columns=columns,
        pareto={"auc_low": pareto_names("auc_low", models)},
        published=published_results(set_2),
        headline="A <b>headline</b> & more.",
    )
    return made, write_comparison(made, tmp_path_factory.mktemp("compare") / "out", title="Ours <i>& theirs")


def test_page_is_complete_and_loads_nothing(written: tuple[ModelComparison, Path]) -> None:
    _, path = written
    text = path.read_text(encoding="utf-8")
    page = Page(text)
    assert page.headings == [
        "A <b>headline</b> & more.",
        "What the numbers say",
        "All numbers",
        "Quality and speed",
        "Distance from chance",
        "Neighbourhoods",
        "Distributions",
        "Profiles",
        "Separation by layer",
        "By energy and direction",
        "Warnings",
        "Settings and origin",
    ]
    assert len(page.ids) == len(set(page.ids))
    assert all(
        image["alt"] and str(image["src"]).startswith("data:image/png;base64,") for image in page.images
    )
    for address in page.addresses:
        assert address.startswith(("data:", "#", "figures/")), address
    linked = {address for address in page.addresses if address.startswith("figures/")}
    assert linked == {
        f"figures/{p.name}" for p in (path.parent / "figures").iterdir() if p.name != "manifest.json"
    }
    assert all((path.parent / address).stat().st_size > 1000 for address in linked)
    assert "default-src 'none'" in text
    style = text.partition("<style>")[2].partition("</style>")[0]
    assert not re.search(r"url\(|@import|https?:", style)
    assert "plotly" not in text.partition("<main>")[2].partition("</main>")[0]


def test_text_from_outside_is_escaped(written: tuple[ModelComparison, Path]) -> None:
    text = written[1].read_text(encoding="utf-8")
    assert "Ours &lt;i&gt;&amp; theirs" in text
    assert "A &lt;b&gt;headline&lt;/b&gt; &amp; more." in text
    assert "<script>alert(1)" not in text
    assert "&lt;script&gt;alert(1)" in text


def test_rows_stand_in_the_page_and_published_ones_apart(written: tuple[ModelComparison, Path]) -> None:
    text = written[1].read_text(encoding="utf-8")
    bodies = re.findall(r"<table[^>]*>.*?</table>", text, re.DOTALL)
    measured = next(body for body in bodies if "second (b)" in body and "0.700" in body)
    published = next(body for body in bodies if "CaloDREAM" in body)
    assert "CaloDREAM" not in measured
    assert "not measured here" in published
    assert all(name not in published for name in NAMES)
    assert "<strong>0.550 ± 0.010*</strong>" in measured
    assert "*</strong>" not in published
    assert "arXiv:2410.21611" in text


@needs_chromium
def test_page_fits_any_width_without_a_network(written: tuple[ModelComparison, Path], tmp_path: Path) -> None:
    browser = start(tmp_path / "profile")
    try:
        for width in (1280, 420):
            show(browser, written[1], width=width)
            wide = "return [document.documentElement.scrollWidth, window.innerWidth]"
            content, window = browser.execute_script(wide)
            assert content <= window
        browser.execute_script("document.querySelectorAll('img').forEach((i) => { i.loading = 'eager'; })")
        wait(browser, "return [...document.images].every((i) => i.complete && i.naturalWidth > 0)")
        assert complaints(browser) == []
    finally:
        browser.quit()


@pytest.mark.parametrize("kind", ["image", "unknown-depth"])
def test_other_meshes_and_unknown_times(kind: str, tmp_path: Path) -> None:
    made = make(kind)
    untimed = [
        m.replace(metrics={k: e for k, e in m.metrics.items() if k not in ("ms", "speed_up")})
        for m in made.models
    ]
    path = write_comparison(made.replace(models=untimed), tmp_path / "out")
    page = Page(path.read_text(encoding="utf-8"))
    assert "Quality and speed" not in page.headings
    assert "Distributions" in page.headings


def test_nothing_is_overwritten_unless_allowed(written: tuple[ModelComparison, Path], tmp_path: Path) -> None:
    made, path = written
    with pytest.raises(DataError, match="exists"):
        write_comparison(made, path.parent, overwrite=False)
    with pytest.raises(DataError, match="lacks the evaluations of first"):
        write_comparison(made.replace(evaluations={}), tmp_path / "new")
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="is a file"):
        write_comparison(made, tmp_path / "file")
    assert not (tmp_path / "new").exists()


def test_missing_package_is_named(
    written: tuple[ModelComparison, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "mplhep", None)
    with pytest.raises(MissingDependencyError, match=r"caloforge\[report\]"):
        write_comparison(written[0], tmp_path)


def test_models_never_look_the_same() -> None:
    styles = model_styles([str(i) for i in range(16)])
    assert len({(s.colour, s.marker) for s in styles}) == 16
    assert len({(s.colour, str(s.line)) for s in styles}) == 16
    assert len(set(COLOURS)) == 8


def test_chosen_layers_hold_the_shower(written: tuple[ModelComparison, Path]) -> None:
    evaluation = written[0].evaluations["first"]
    energy = evaluation.profiles["longitudinal"].reference
    layers = chosen_layers(evaluation)
    assert layers == sorted(set(layers))
    before = [energy[: layer + 1].sum() / energy.sum() for layer in layers]
    assert before[0] >= 0.1
    assert before[-1] >= 0.9
