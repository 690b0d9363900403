"""`compare`: laws of ranking, the table, what is written and gone on with, and mistakes."""

from __future__ import annotations

import csv
import io
import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from rich.console import Console
from typer.testing import CliRunner

from caloforge.cli.compare import named_files
from caloforge.data import Conditions, Showers, write_showers
from caloforge.detector import CylinderMesh, calochallenge_mesh
from caloforge.errors import DataError, MeshError, RecipeError
from caloforge.evaluation import ClassifierSettings, Estimate, ModelComparison, read_comparison
from caloforge.evaluation.binning import challenge_set
from caloforge.evaluation.classifiers.scores import auc_error
from caloforge.evaluation.comparison.published import published_results
from caloforge.evaluation.comparison.ranking import badness, clearly_better, metrics_of, pareto_front
from caloforge.report import compare, evaluate, summary
from caloforge.report.words.columns import value_text
from caloforge.report.words.table import csv_text, markdown

Make = Callable[..., Showers]
MESH = CylinderMesh.regular(n_z=3, n_phi=4, n_r=2)
TINY = ClassifierSettings(
    hidden=32, layers=2, epochs=8, batch_size=20, repeats=2, standardise=True, threads=1
)


def quiet(reference: Any, generated: Any, **options: Any) -> ModelComparison:
    given = {"classifiers": "none", "distances": False, "progress": False} | options
    return compare(reference, generated, **given)


def lit_showers(n: int, seed: int = 0) -> Showers:
    """Showers with random cells, two fifths of them lit, and log-uniform energies of 1 to 50 GeV."""
    rng = np.random.default_rng(seed)
    energy = 1000 * 50 ** rng.random(n)
    cells = rng.exponential(1.0, (n, MESH.n_voxels)) * (rng.random((n, MESH.n_voxels)) < 0.4)
    cells *= (energy / np.maximum(cells.sum(axis=1), 1e-9))[:, None]
    return Showers(cells.astype(np.float32), Conditions(energy, particle="e-"), MESH)


def timed(showers: Showers, ms: float, scale: float = 1.0, layer: int | None = None) -> Showers:
    """The same showers with a generator's time, one layer or all energies scaled."""
    cells = showers.energies.copy()
    cells[:, slice(None) if layer is None else layer] *= np.float32(scale)
    made_by = {"action": "generate", "performance": {"ms_per_shower": ms, "device": "cpu"}}
    return Showers(cells, showers.conditions, showers.mesh, made_by)


@pytest.fixture(scope="module")
def samples() -> dict[str, Showers]:
    return {
        "reference": lit_showers(300),
        "good": timed(lit_showers(300, seed=1), 10.0),
        "bad": timed(lit_showers(300, seed=2), 1.0, 3.0, layer=1),
    }


@pytest.fixture(scope="module")
def judged(
    samples: dict[str, Showers], tmp_path_factory: pytest.TempPathFactory
) -> tuple[ModelComparison, Path]:
    """A good and a bad model with classifiers and distances, on disk."""
    out = tmp_path_factory.mktemp("compare") / "out"
    generated = {name: samples[name] for name in ("good", "bad")}
    made = quiet(samples["reference"], generated, out=out, classifiers=TINY, which=("high",), distances=True)
    return made, out


# ---- laws of ranking ------------------------------------------------------------------------------


def dominated(points: np.ndarray[Any, Any], i: int) -> bool:
    return any((p <= points[i]).all() and (p < points[i]).any() for p in points)


@pytest.mark.parametrize("seed", range(5))
def test_pareto_front_is_what_nothing_dominates(seed: int) -> None:
    points = np.random.default_rng(seed).integers(0, 6, (15, 2 + seed % 2)).astype(float)
    front = pareto_front(points)
    assert front.tolist() == [i for i in range(len(points)) if not dominated(points, i)]
    order = np.random.default_rng(seed).permutation(len(points))
    assert sorted(order[pareto_front(points[order])]) == front.tolist()
    assert pareto_front(np.exp(points)).tolist() == front.tolist()


def test_pareto_front_of_known_points() -> None:
    assert pareto_front([(1, 3), (2, 2), (3, 1), (3, 3), (2, 2)]).tolist() == [0, 1, 2, 4]
    assert pareto_front([(1, 1), (math.nan, 0), (0, math.nan)]).tolist() == [0]
    assert pareto_front(np.zeros((0, 2))).tolist() == []
    with pytest.raises(DataError, match="table"):
        pareto_front([1.0, 2.0])


def test_better_is_decided_by_the_errors() -> None:
    def auc(value: float, error: float) -> Estimate:
        return Estimate(value=value, error=error, ideal=0.5)

    assert clearly_better("auc_low", auc(0.6, 0.01), auc(0.7, 0.01))
    assert not clearly_better("auc_low", auc(0.7, 0.01), auc(0.6, 0.01))
    assert not clearly_better("auc_low", auc(0.6, 0.06), auc(0.7, 0.01))
    assert not clearly_better("auc_low", auc(0.6, math.nan), auc(0.7, 0.01))
    assert not clearly_better("auc_low", auc(0.3, 0.01), auc(0.5, 0.01))  # below 0.5 is luck, not quality
    first, second = (Estimate(value=v, error=0.01, ideal=1.0, higher_is_better=True) for v in (0.9, 0.8))
    assert clearly_better("recall", first, second)
    assert badness(first) == pytest.approx(0.1)
    assert clearly_better("ms", Estimate(value=1.0), Estimate(value=1.3))
    assert not clearly_better("ms", Estimate(value=1.0), Estimate(value=1.05))
    fpd = [
        Estimate(value=v, error=0.001, floor=0.1, floor_error=0.1) for v in (0.2, 0.3)
    ]  # scatter of other showers counts
    assert not clearly_better("fpd", *fpd)


def test_error_of_an_auc() -> None:
    n = 200
    assert auc_error(0.5, n) == pytest.approx(math.sqrt((2 * n + 1) / (12 * n * n)), rel=0.01)
    assert auc_error(1.0, n) == 0
    rng = np.random.default_rng(0)
    shift = 1.0  # Gaussians one standard deviation apart: AUC = Φ(1/√2) = 0.760
    draws = rng.normal(size=(2, 400, n))
    aucs = (draws[0][:, :, None] + shift > draws[1][:, None, :]).mean(axis=(1, 2))
    assert auc_error(float(aucs.mean()), n) == pytest.approx(aucs.std(), rel=0.15)


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        (0.84523, 0.0054, "0.845 ± 0.005"),
        (0.84523, 0.0124, "0.845 ± 0.012"),
        (-0.5, 0.2, "−0.50 ± 0.20"),
        (123.4, math.nan, "123"),
        (0.0, math.nan, "0"),
        (1234.6, 25.0, "1235 ± 25"),
        (math.nan, 1.0, "–"),
        (2.346e-6, 1.2e-7, "(0.00235 ± 0.00012)·10⁻³"),
    ],
)
def test_numbers_as_text(value: float, error: float, text: str) -> None:
    assert value_text(value, error) == text


# ---- the comparison -------------------------------------------------------------------------------


def test_copies_of_the_reference_are_level(samples: dict[str, Showers]) -> None:
    reference = samples["reference"]
    made = quiet(reference, {"a": reference, "b": reference})
    assert {column.best for column in made.columns} == {""}
    assert made.models[0].metrics == made.models[1].metrics
    assert made.models[0].metrics["worst_feature"].value == 0.5
    assert all(e.value == 0 for key, e in made.models[0].metrics.items() if key.startswith("separation"))
    assert any("a and b are equally near" in s for s in made.sentences)


def test_the_better_model_is_named(judged: tuple[ModelComparison, Path]) -> None:
    made, _ = judged
    assert made.headline.startswith("good is nearest to Geant4")
    assert made.column("auc_high").best == made.column("separation_e_ratio").best == "good"
    worst = [m.metrics["worst_feature"].value for m in made.models]
    assert worst[1] > 0.8 > worst[0]
    assert made.column("fpd").best == ""  # they differ by far less than other showers would scatter
    assert made.column("ms").best == "bad"
    assert made.pareto["auc_high"] == ["bad", "good"]
    text = " ".join(made.sentences)
    assert "bad is the fastest" in text
    assert "Pareto front of time and AUC high: bad and good." in text


def test_each_row_is_what_evaluate_says(
    samples: dict[str, Showers], judged: tuple[ModelComparison, Path]
) -> None:
    made, _ = judged
    alone = evaluate(samples["reference"], samples["bad"], classifiers=TINY, which=("high",), progress=False)
    found = {key: e for key, e in made.models[1].metrics.items() if key != "log_posterior"}
    assert found == metrics_of(alone)


def test_one_network_for_all_samples(
    samples: dict[str, Showers], judged: tuple[ModelComparison, Path], tmp_path: Path
) -> None:
    made, out = judged
    result = made.multiclass
    assert result is not None
    assert result.names == ("Geant4", "good", "bad")
    assert result.nearest == made.column("log_posterior").best == "good"
    good, bad = (m.metrics["log_posterior"] for m in made.models)
    assert good.value > bad.value + 5 * bad.error
    assert abs(good.sigmas()) < 4 < bad.sigmas()  # equal to the reference's own class, and far below it
    assert good.floor == result.log_posterior[0]
    assert result.confusion.sum(axis=1) == pytest.approx(1)
    copy = shutil.copytree(out, tmp_path / "out")
    written = (copy / "multiclass.json").stat().st_mtime_ns
    generated = {name: samples[name] for name in ("good", "bad")}
    again = quiet(
        samples["reference"],
        generated,
        out=copy,
        classifiers=TINY,
        which=("high",),
        distances=True,
        resume=True,
    )
    assert again.to_dict()["multiclass"] == made.to_dict()["multiclass"]
    assert (copy / "multiclass.json").stat().st_mtime_ns == written


def test_files_and_round_trip(judged: tuple[ModelComparison, Path]) -> None:
    made, out = judged
    names = {p.relative_to(out).as_posix() for p in out.rglob("*") if p.is_file()}
    assert names == {
        "comparison.json",
        "comparison.md",
        "comparison.csv",
        "multiclass.json",
        *(f"{n}/{f}" for n in ("good", "bad") for f in ("metrics.json", "settings.json")),
    }
    plain = json.loads((out / "comparison.json").read_text())
    assert plain["schema"] == 1
    again = read_comparison(out)
    assert again.to_dict() == made.to_dict() == plain
    assert again.evaluations["bad"].to_dict() == made.evaluations["bad"].to_dict()
    with pytest.raises(DataError, match="schema"):
        ModelComparison.from_dict({"schema": 99})
    with pytest.raises(DataError, match="cannot read"):
        read_comparison(out / "nowhere")


def test_the_file_fits_its_documented_schema(judged: tuple[ModelComparison, Path]) -> None:
    # to renew it: print(json.dumps(ModelComparison.json_schema(), indent=1, ensure_ascii=False))
    documented = Path(__file__).parents[2] / "docs" / "reference" / "comparison.schema.json"
    assert json.loads(documented.read_text()) == ModelComparison.json_schema()
    check = jsonschema.Draft202012Validator(ModelComparison.json_schema())
    plain = json.loads((judged[1] / "comparison.json").read_text())
    check.validate(plain)
    assert not check.is_valid(plain | {"models": {}})
    assert not check.is_valid({key: value for key, value in plain.items() if key != "columns"})


def test_tables_hold_the_numbers(judged: tuple[ModelComparison, Path]) -> None:
    made, out = judged
    rows = list(csv.DictReader(io.StringIO(csv_text(made))))
    found = {(r["model"], r["metric"]): r for r in rows}
    auc = made.models[0].metrics["auc_high"]
    assert float(found["good", "auc_high"]["value"]) == auc.value
    assert float(found["good", "auc_high"]["error"]) == auc.error
    assert found["good", "auc_high"]["best"] == "1"
    assert found["bad", "auc_high"]["best"] == "0"
    text = markdown(made)
    assert text == (out / "comparison.md").read_text()
    assert f"**{value_text(auc.value, auc.error)}**" in text
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(summary(made))
    shown = console.export_text()
    for expected in (
        "Geant4 against itself",
        "AUC high",
        value_text(auc.value, auc.error) + "*",
        made.headline,
    ):
        assert expected in shown


def test_without_classifiers_the_worst_feature_ranks(samples: dict[str, Showers]) -> None:
    made = quiet(samples["reference"], {name: samples[name] for name in ("bad", "good")})
    assert made.headline.startswith("good is nearest to Geant4 by the single feature that differs most")
    assert list(made.pareto) == ["worst_feature"]


def test_different_conditions_of_timing_are_said(samples: dict[str, Showers]) -> None:
    a, b = samples["good"], samples["bad"]
    other = Showers(b.energies, b.conditions, MESH, {"performance": {"ms_per_shower": 1.0, "device": "cuda"}})
    warnings = " ".join(quiet(samples["reference"], {"a": a, "b": other[:200]}).warnings)
    assert "different devices (a: cpu, b: cuda)" in warnings
    assert "different sizes (200 to 300 showers)" in warnings
    unknown = Showers(a.energies, a.conditions, MESH)
    assert any("No file tells" in s for s in quiet(samples["reference"], {"a": unknown}).sentences)


# ---- going on, and mistakes -----------------------------------------------------------------------


def test_resume_keeps_what_is_done_and_refuses_what_changed(
    samples: dict[str, Showers], tmp_path: Path
) -> None:
    paths = {name: tmp_path / f"{name}.h5" for name in samples}
    for name, path in paths.items():
        write_showers(samples[name], path)
    out = tmp_path / "out"
    quiet(paths["reference"], [paths["good"]], out=out)
    written = (out / "good" / "metrics.json").stat().st_mtime_ns
    with pytest.raises(DataError, match="--resume"):
        quiet(paths["reference"], [paths["good"]], out=out)
    more = quiet(paths["reference"], [paths["good"], paths["bad"]], out=out, resume=True)
    assert [m.name for m in more.models] == ["good", "bad"]
    assert more.models[0].file == str(paths["good"])
    assert (out / "good" / "metrics.json").stat().st_mtime_ns == written
    with pytest.raises(DataError, match="the settings changed"):
        quiet(paths["reference"], [paths["good"]], out=out, resume=True, seed=1)
    assert (out / "comparison.json").exists()
    older = (out / "good" / "metrics.json").read_text().replace('"caloforge": "', '"caloforge": "older ')
    (out / "good" / "metrics.json").write_text(older)
    mixed = quiet(paths["reference"], [paths["good"], paths["bad"]], out=out, resume=True)
    assert "different versions of caloforge (good: older" in " ".join(mixed.warnings)
    write_showers(samples["bad"], paths["good"], overwrite=True)
    with pytest.raises(DataError, match="the generated showers changed"):
        quiet(paths["reference"], [paths["good"]], out=out, resume=True)
    again = quiet(paths["reference"], [paths["good"], paths["bad"]], out=out, resume=True, overwrite=True)
    assert again.models[0].metrics == again.models[1].metrics


def test_showers_in_memory_are_known_by_their_cells(samples: dict[str, Showers], tmp_path: Path) -> None:
    good, out = samples["good"], tmp_path / "out"
    cells = good.energies.copy()
    cells[10:-10] *= 5
    changed = Showers(cells, good.conditions, good.mesh, good.provenance)
    quiet(samples["reference"], {"good": good}, out=out, training=samples["bad"])
    quiet(samples["reference"], {"good": good}, out=out, training=samples["bad"], resume=True)
    with pytest.raises(DataError, match="the generated showers changed"):
        quiet(samples["reference"], {"good": changed}, out=out, training=samples["bad"], resume=True)
    with pytest.raises(DataError, match="the reference changed"):
        quiet(changed, {"good": good}, out=out, training=samples["bad"], resume=True)
    with pytest.raises(DataError, match="the settings changed"):
        quiet(samples["reference"], {"good": good}, out=out, training=changed, resume=True)


def test_all_samples_are_checked_before_any_is_evaluated(
    samples: dict[str, Showers], make: Make, tmp_path: Path
) -> None:
    good, out = samples["good"], tmp_path / "out"
    other = make(calochallenge_mesh("1-pions"))
    with pytest.raises(MeshError, match="'b'"):
        quiet(samples["reference"], {"a": good, "b": other}, out=out)
    with pytest.raises(DataError, match="5 showers in 'b'"):
        quiet(samples["reference"], {"a": good, "b": good[:5]}, out=out)
    with pytest.raises(DataError, match="no such file"):
        quiet(samples["reference"], {"a": good, "b": tmp_path / "none.h5"}, out=out)
    with pytest.raises(DataError, match="two models are named 'A'"):
        quiet(samples["reference"], {"a": good, "A": good}, out=out)
    for name in ("a/b", "", "..", "figures", "Geant4", " a"):
        with pytest.raises(DataError, match="cannot name a model"):
            quiet(samples["reference"], {name: good}, out=out)
    with pytest.raises(DataError, match="at least one"):
        quiet(samples["reference"], [])
    with pytest.raises(DataError, match="at least one"):
        quiet(samples["reference"], good)
    with pytest.raises(RecipeError, match="preset"):
        quiet(samples["reference"], [good], out=out, classifiers="best")
    assert not out.exists()


# ---- published rows -------------------------------------------------------------------------------


def test_published_rows_belong_to_their_mesh() -> None:
    found = {name: published_results(calochallenge_mesh(name)) for name in ("1-photons", "1-pions", "2", "3")}
    assert {name: len(rows) for name, rows in found.items()} == {
        "1-photons": 4,
        "1-pions": 0,
        "2": 12,
        "3": 3,
    }
    assert all(challenge_set(calochallenge_mesh(name)) == name for name in found)
    assert published_results(MESH) == []
    deeper = CylinderMesh.regular(n_z=45, dz=5.0, n_phi=16, n_r=9, dr=4.65)  # depths are not published
    assert published_results(deeper) == found["2"]
    dream = next(r for r in found["2"] if r.model == "CaloDREAM")
    assert dream.metrics == {
        "auc_low": 0.531,
        "auc_high": 0.521,
        "auc_resnet": 0.681,
        "fpd": pytest.approx(24.6e-3),
        "kpd": pytest.approx(23e-6),
    }
    assert dream.time("gpu") == (74.0, "gpu_100")
    assert dream.time("cpu") == (5052.0, "cpu_100")
    for rows in found.values():
        lows = [r.metrics["auc_low"] for r in rows]
        assert lows == sorted(lows)
        assert {r.source for r in rows} <= {"arXiv:2410.21611"}
        assert all(0.49 < v <= 1 for r in rows for k, v in r.metrics.items() if k.startswith("auc"))
        assert all(ms > 0 for r in rows for ms in r.ms.values())


def test_published_rows_stand_apart_and_are_never_best(make: Make) -> None:
    mesh = calochallenge_mesh("2")
    made = quiet(make(mesh, n=40), {"a": make(mesh, n=40, seed=1)}, slices={})
    assert {column.best for column in made.columns} == {""}
    text = markdown(made)
    assert "*CaloDREAM (published)*" in text
    assert "not measured here" in text
    rows = list(csv.DictReader(io.StringIO(csv_text(made))))
    assert {r["kind"] for r in rows if r["model"] == "CaloDREAM"} == {"published"}


# ---- the command ----------------------------------------------------------------------------------


def test_names_on_the_command_line(tmp_path: Path) -> None:
    odd = tmp_path / "x=y.h5"
    odd.write_text("")
    found = named_files(["a/flow.h5", "ours=b/flow.h5", str(odd)])
    assert found == {"flow": Path("a/flow.h5"), "ours": Path("b/flow.h5"), "x=y": odd}
    with pytest.raises(DataError, match="both named 'flow'"):
        named_files(["a/flow.h5", "b/flow.h5"])


def test_the_command_writes_everything(samples: dict[str, Showers], tmp_path: Path) -> None:
    from caloforge.cli.app import app

    for name, showers in samples.items():
        write_showers(showers, tmp_path / f"{name}.h5")
    arguments = ["reference.h5", "good.h5", "worse=bad.h5"]
    command = [
        "compare",
        *(a.replace("=", f"={tmp_path}/") if "=" in a else f"{tmp_path}/{a}" for a in arguments),
    ]
    done = CliRunner().invoke(
        app,
        [*command, "-o", str(tmp_path / "out"), "--classifiers", "none", "--no-report"],
        catch_exceptions=False,
    )
    assert done.exit_code == 0
    assert "worse" in done.stdout
    assert [m.name for m in read_comparison(tmp_path / "out").models] == ["good", "worse"]
