"""Judging pixel events: laws of every part, what is found, bad input, the page."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from small_pixels import small_detector, small_events
from typer.testing import CliRunner

from caloforge import PixelEvents, evaluate_events, write_event_report
from caloforge.cli.app import app
from caloforge.data.pixels import (
    ArrayHits,
    PixelConditions,
    PixelHits,
    find_clusters,
    write_events,
    write_images,
)
from caloforge.data.pixels.hits import check_hits
from caloforge.detector import PixelDetector
from caloforge.errors import CaloforgeError, DataError
from caloforge.evaluation.pixels import merged_clusters, signal_hits
from caloforge.evaluation.pixels.chance import deal_events
from caloforge.evaluation.pixels.correlations import spearman
from caloforge.evaluation.pixels.events import tell_events_apart
from caloforge.evaluation.pixels.images import kid, train_network
from caloforge.evaluation.pixels.memorisation import event_memorisation
from caloforge.evaluation.pixels.quantities import measure
from caloforge.evaluation.pixels.reading import read_sample
from caloforge.evaluation.results import PixelEvaluation
from caloforge.report.pixel_tables import groups

FAST = {"progress": False, "distances": False, "classifiers": False}
DOCUMENTED = Path(__file__).parents[2] / "docs" / "reference" / "pixel-metrics.schema.json"


def events_like(n: int, seed: int = 0, lit: float = 0.1, spread: float = 0.3) -> PixelEvents:
    """Events whose rates light their cells, with what their sensors have in common."""
    random = np.random.default_rng(seed)
    events = small_events(n, seed)
    shape = events.detector.shape
    common = events.conditions.rates.mean(axis=1) * np.exp(random.normal(0, spread, n))
    chance = np.clip(lit * common, 0, 0.9)[:, None, None, None]
    images = random.integers(7, 60, (n, *shape)) * (random.random((n, *shape)) < chance)
    hits = PixelHits.from_dense(images.astype(np.uint8))
    return PixelEvents(ArrayHits(hits), events.conditions, events.detector, events.provenance, events.extra)


def sample(events: PixelEvents):
    return read_sample(events, 0, lambda fraction: None)


def thinned(events: PixelEvents, share: float, seed: int = 1) -> PixelEvents:
    """Events that have lost some of their hits."""
    images = events.read(0, len(events)).dense()
    images[np.random.default_rng(seed).random(images.shape) < share] = 0
    hits = PixelHits.from_dense(images)
    return PixelEvents(ArrayHits(hits), events.conditions, events.detector, events.provenance)


def test_signal_depends_on_seed_and_number_alone():
    detector = PixelDetector.load("belle2-pxd")
    numbers = np.array([5, 0, 9])
    together = signal_hits(detector, numbers, 3, particles=4)
    check_hits(together.hits, detector, "signal")
    dense = together.hits.dense()
    for row in range(len(numbers)):
        alone = signal_hits(detector, numbers[row : row + 1], 3, particles=4)
        np.testing.assert_array_equal(alone.hits.dense()[0], dense[row])
    assert (signal_hits(detector, numbers, 4, particles=4).hits.dense() != dense).any()


def test_signal_is_that_of_minimum_ionising_particles():
    detector = PixelDetector.load("belle2-pxd")
    signal = signal_hits(detector, np.arange(6), 0)
    found = find_clusters(signal.hits)
    kind = signal.kind[found.first]
    straight, inclined = (kind == k for k in (0, 1))
    assert abs(len(found) / (6 * 40 * 20) - 1) < 0.02  # nearly every particle, few of them touching
    assert 25 <= np.median(found.charge[straight]) <= 29  # 27 ADU, docs/explanation/pixel.md
    assert found.size_v[straight].mean() < 1.2 < 1.6 < found.size_v[inclined].mean()
    assert found.charge[inclined].mean() > 1.4 * found.charge[straight].mean()


def test_clusters_are_merged_and_hidden_by_what_touches_them():
    detector = small_detector()
    signal = signal_hits(detector, np.arange(20), 0, particles=2)
    nothing = PixelHits.from_dense(np.zeros((20, *detector.shape), dtype=np.uint8))
    total, merged, hidden = np.moveaxis(merged_clusters(signal, nothing, detector), -1, 0)
    assert total.sum() == len(find_clusters(signal.hits))
    assert merged.sum() == hidden.sum() == 0
    images = signal.hits.dense()
    for factor, all_hidden in ((0.5, False), (2, True)):  # the same cells again, weaker or stronger
        again = np.minimum(images * factor, 255)
        background = PixelHits.from_dense(np.where(images > 0, np.maximum(again, 7), 0).astype(np.uint8))
        total, merged, hidden = np.moveaxis(merged_clusters(signal, background, detector), -1, 0)
        np.testing.assert_array_equal(merged, total)
        np.testing.assert_array_equal(hidden, total if all_hidden else 0 * total)


def test_what_is_counted_is_what_images_hold():
    events = events_like(25)
    read, images = sample(events), events.read(0, 25).dense()
    lit = images > 0
    np.testing.assert_array_equal(read.pixels, lit.sum(axis=(2, 3)))
    np.testing.assert_array_equal(read.adu, images.sum(axis=(2, 3), dtype=int))
    np.testing.assert_array_equal(read.segments, lit.reshape(25, 8, 10, 6, 2).sum(axis=(2, 4)))
    assert read.maps.sum() == lit.sum() == read.charges.sum() == read.shapes[..., 0].sum()
    found = measure(read, np.arange(25), sources=True)
    value = {name: number for name, (_, number) in found.items()}
    charges = images[lit]
    assert value["occupancy"] == pytest.approx(100 * lit.mean())
    assert value["charge_mean"] == pytest.approx(charges.mean())
    assert abs(value["charge_q50"] - np.median(charges)) <= 0.5
    assert value["clusters"] == pytest.approx(len(find_clusters(events.read(0, 25))) / 25)
    classes = [value[f"clusters_{kind}"] for kind in ("soft", "hard", "charged")]
    assert sum(classes) == pytest.approx(value["clusters"])
    assert value["occupancy_segment_1.2.1_3"] == pytest.approx(100 * lit[:, 2, :, 4:6].mean())
    twice = measure(read, np.repeat(np.arange(25), 2), sources=True)
    assert {n: v for n, (_, v) in twice.items()} == pytest.approx(value)


def test_sources_are_told_apart_by_rates():
    events = events_like(200, spread=0.0)
    value = measure(sample(events), np.arange(len(events)), sources=True)
    sources = [value[f"response_{name}_layer_1"][1] for name in events.conditions.sources]
    np.testing.assert_allclose(sources, 10 / len(sources), rtol=0.2)  # 10 % at the mean of the rates
    assert value["rate_power_layer_1"][1] == pytest.approx(1, abs=0.1)


def test_spearman_is_scipys():
    values = np.random.default_rng(0).integers(0, 5, (40, 6))
    np.testing.assert_allclose(spearman(values), spearmanr(values).statistic, atol=1e-12)
    values[:, 2] = 1
    assert np.isnan(spearman(values)[2]).all()


def test_deals_are_disjoint_and_twins_stay_together():
    truth, made = sample(events_like(20)), sample(events_like(15, seed=5))
    for deal in deal_events(truth, made, None, 0):
        assert len(deal.truth) == len(deal.other) == len(deal.generated) == 10
        assert not set(deal.truth) & set(deal.other)
        assert len(set(deal.generated)) == 10
    order = np.argsort(np.argsort(truth.rates.mean(axis=1)))
    for deal in deal_events(truth, truth, None, 0):
        np.testing.assert_array_equal(deal.generated, deal.other)
        np.testing.assert_array_equal(order[deal.truth] // 2, order[deal.other] // 2)


def test_kid_of_one_distribution_is_nothing():
    random = np.random.default_rng(0)
    first, second, moved = random.normal(0, 1, (3, 400, 5)) + np.array([0, 0, 0.5])[:, None, None]
    assert abs(kid(first, second, 0)) < 0.1 < kid(first, moved, 0)


def test_the_seed_alone_decides_the_sensor_network():
    networks = []
    for other in (1, 2):
        torch.manual_seed(other)
        before = torch.get_rng_state()
        network = train_network(events_like(12), 0, torch.device("cpu"), lambda fraction: None, images=160)
        networks.append(network.state_dict())
        assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(networks[0][name], networks[1][name]) for name in networks[0])


@pytest.fixture(scope="module")
def truth() -> PixelEvents:
    return events_like(60)


@pytest.fixture(scope="module")
def same(truth: PixelEvents) -> PixelEvaluation:
    """As good as Geant4: other events of the same kind."""
    return evaluate_events(truth, events_like(50, seed=7), images=160, progress=False)


def test_more_of_the_same_is_not_told_apart(same):
    assert same.verdict is not None
    assert same.verdict.level == -1  # nor said to be right
    assert not same.verdict.differs
    assert set(same.distances) == {"fid", "kid"}
    assert set(same.classifiers) == {"linear", "trees"}
    assert set(same.correlations) == {
        "occupancy",
        "clusters",
        "occupancy_given_rates",
        "clusters_given_rates",
    }
    for estimate in (*same.distances.values(), *same.classifiers.values()):
        assert abs(estimate.sigmas()) < 3
        assert estimate.showers == (20, 20) if estimate is same.distances["fid"] else True
    assert same.network is not None
    assert same.network.events == 20
    assert 0 <= same.network.accuracy <= same.network.accuracy_end <= 1
    assert same.rate_curve is not None


def test_the_same_seed_gives_the_same_numbers(truth):
    one, other = (
        evaluate_events(
            truth[:15], truth[40:], seed=3, progress=False, images=80, classifiers=False
        ).to_dict()
        for _ in range(2)
    )
    for plain in (one, other):
        del plain["provenance"], plain["network"]["seconds"], plain["verdict"]
    first, second = (plain.pop("distances") for plain in (one, other))
    assert one == other
    for name in first:  # sums of single precision, in an order that is the machine's
        assert first[name]["value"] == pytest.approx(second[name]["value"], rel=1e-3)


def test_lost_pixels_are_found(truth):
    found = evaluate_events(truth, thinned(truth, 0.1), **FAST)
    assert found.twins  # of which both are drawn together, so that the spread of the rates is no error
    lost = found.quantities["occupancy"]
    assert lost.relative == pytest.approx(-0.1, abs=0.01)
    assert lost.error < 0.01 < found.quantities["occupancy"].floor
    assert found.verdict is not None
    assert found.verdict.level == 2
    assert evaluate_events(truth, thinned(truth, 0.5), **FAST).verdict.level == 3  # with no judge of events
    assert any(text.startswith("Occupancy of layer 1 is off by −") for text in found.verdict.differs)
    with_itself = evaluate_events(truth, truth, **FAST)
    assert all(q.relative == 0 and q.error == 0 for q in with_itself.quantities.values() if q.reference)
    assert with_itself.correlations["occupancy"].distance.sigmas() == pytest.approx(0, abs=1e-9)


def test_sensors_that_forget_each_other_are_found():
    truth = events_like(80, spread=0.5)
    images = truth.read(0, 80).dense()
    for sensor in range(images.shape[1]):  # every sensor from another event: each alone is right
        images[:, sensor] = images[np.random.default_rng(sensor).permutation(80), sensor]
    made = PixelEvents(ArrayHits(PixelHits.from_dense(images)), truth.conditions, truth.detector)
    found = evaluate_events(truth, made, **FAST)
    assert all(abs(q.relative) < 1e-9 for n, q in found.quantities.items() if n.startswith("occupancy_"))
    assert found.correlations["occupancy"].distance.sigmas() > 3
    assert found.correlations["occupancy_given_rates"].distance.sigmas() > 3


def test_judges_see_events_that_differ(truth):
    one, other = sample(truth), sample(thinned(events_like(60, seed=4), 0.4))
    deals = deal_events(one, other, None, 0, times=2)
    for estimate in tell_events_apart(one, other, deals, sources=True, seed=0).values():
        assert estimate.value > 0.75
        assert abs(estimate.floor - 0.5) < 0.25
    assert (
        tell_events_apart(
            one, other, deal_events(one, other, None, 0, rows=np.arange(12)), sources=True, seed=0
        )
        == {}
    )


def test_copies_are_found_and_new_events_are_not():
    training, held_out = events_like(50, seed=1), events_like(60, seed=2)

    def remembered(generated):
        return event_memorisation(generated, training, held_out, 0, lambda fraction: None)

    copied = remembered(PixelEvents.concatenate([training[:20], events_like(30, seed=3)]))
    assert copied.copies >= 20
    assert copied.significant
    assert {pair[0] for pair in copied.rows} <= set(range(20))
    assert all(made == seen for made, seen in copied.rows)
    fresh = remembered(events_like(50, seed=3))
    assert fresh.copies <= 3
    assert abs(fresh.nearer.sigmas()) < 3
    with pytest.raises(DataError, match="are also training events"):
        event_memorisation(events_like(30, seed=3), training, training, 0, lambda fraction: None)


def test_a_single_copied_sensor_of_a_large_detector_shows():
    """With as many hits as real events have, whose products are beyond 32 bits."""
    detector = PixelDetector.load("belle2-pxd")
    random = np.random.default_rng(0)
    n, lit = 21, 1250  # of each sensor
    cells = detector.shape[1] * detector.shape[2]

    def events(copied: np.ndarray | None = None) -> tuple[PixelEvents, np.ndarray]:
        places = np.sort(random.integers(0, cells - lit, (n, 40, lit)), axis=-1) + np.arange(lit)
        if copied is not None:
            places[:, 7] = copied[:, 7]
        u, v = np.divmod(places.ravel(), detector.shape[2])
        charge = np.full(len(u), 20, dtype=np.uint8)
        counts = np.full((n, 40), lit)
        hits = PixelHits(detector.shape, counts, u.astype(np.uint16), v.astype(np.uint16), charge)
        return PixelEvents(ArrayHits(hits), PixelConditions.unknown((), n), detector), places

    training, seen = events()
    held_out, made = events()[0], events(seen)[0]
    found = event_memorisation(made, training, held_out, 0, lambda fraction: None)
    assert found.copies == n
    assert found.nearer.value == 1
    assert sorted(found.rows) == sorted((i, i) for i, _ in found.rows)


def test_bad_input_is_refused(truth, tmp_path):
    description = small_detector().to_dict()
    description["readout"]["threshold_adu"] = 8
    changed = PixelDetector.from_dict(description | {"name": "changed"})
    conditions = truth.conditions[:10]
    hits = truth[10:20].read(0, 10)
    hits.charge[:] = 20
    other = PixelEvents(ArrayHits(hits), conditions, changed)
    with pytest.raises(DataError, match="of changed and the truth is of small, whose readout differ"):
        evaluate_events(truth, other, **FAST)
    with pytest.raises(DataError, match=r"the generated events have 3 events; .* at least 4"):
        evaluate_events(truth, truth[:3], **FAST)
    with pytest.raises(DataError, match="the truth have 0 events"):
        evaluate_events(truth[:0], truth, **FAST)
    write_events(truth, tmp_path / "truth.h5")
    write_images(truth, tmp_path / "images")
    (tmp_path / "images" / "1.2.1").rename(tmp_path / "images" / "1.9.1")
    with pytest.raises(DataError, match=r"1\.2\.1"):
        evaluate_events(tmp_path / "truth.h5", tmp_path / "images", **FAST)


def test_images_without_rates_are_judged(truth, tmp_path):
    write_images(events_like(12, seed=3), tmp_path / "images")
    found = evaluate_events(truth, tmp_path / "images", **FAST)
    assert found.rate_curve is None
    assert not any(name.startswith("response") for name in found.quantities)
    assert any("rates of a sample are not known" in text for text in found.warnings)


def test_a_second_reference_gives_the_floors(truth):
    found = evaluate_events(truth, events_like(30, seed=7), second_reference=events_like(40, seed=8), **FAST)
    distance = found.correlations["occupancy"].distance
    assert distance.floor_from == "second reference"
    assert distance.showers == (30, 30)


def test_metrics_are_what_is_documented(same):
    jsonschema = pytest.importorskip("jsonschema")
    plain = json.loads(json.dumps(same.to_dict(), allow_nan=False))
    # to renew it: print(json.dumps(PixelEvaluation.json_schema(), indent=1, ensure_ascii=False))
    assert json.loads(DOCUMENTED.read_text()) == PixelEvaluation.json_schema()
    jsonschema.Draft202012Validator(PixelEvaluation.json_schema()).validate(plain)
    assert PixelEvaluation.from_dict(plain).to_dict() == plain


def test_the_command_writes_numbers(truth, tmp_path):
    write_events(truth, tmp_path / "truth.h5")
    write_events(events_like(30, seed=7), tmp_path / "made.h5")
    write_events(events_like(30, seed=9), tmp_path / "train.h5")
    made, true, train = (str(tmp_path / name) for name in ("made.h5", "truth.h5", "train.h5"))

    def run(*arguments: str):
        more = ("-o", str(tmp_path / "report"), "--no-report")
        result = CliRunner().invoke(app, ["evaluate", *arguments, *more])
        if isinstance(result.exception, CaloforgeError):
            raise result.exception
        return result

    done = run(made, "--truth", true, "--training", train, "--no-distances", "--classifiers", "none")
    assert done.exit_code == 0, done.output
    found = PixelEvaluation.read(tmp_path / "report" / "metrics.json")
    assert found.counts == {"reference": 60, "generated": 30, "training": 30}
    assert found.memorisation is not None
    assert "generated events" in found.memorisation.verdict
    with pytest.raises(DataError, match="exists; choose another folder"):
        run(true, made)
    with pytest.raises(DataError, match="--threshold has no meaning"):
        run(true, made, "--threshold", "1", "--overwrite")
    assert run(true).exit_code == 2  # nothing to judge
    assert run(true, made, "--truth", true).exit_code == 2  # two truths


def test_quantities_of_which_the_truth_has_none_are_in_the_table(same):
    """As the 1 % quantile of the occupancy of images is, where most are dark: halves differ by any factor."""
    none = {"reference": 0.0, "relative": math.nan, "error": math.nan, "floor": math.inf}
    quantities = {"occupancy": same.quantities["occupancy"].replace(**none)}
    (table,) = groups(same.replace(quantities=quantities))
    assert [cell if isinstance(cell, str) else cell.text for cell in table.rows[0][3:]] == ["not known"] * 3


def test_the_page_shows_everything(same, truth, tmp_path):
    page = write_event_report(
        same, truth, events_like(50, seed=7), tmp_path, title="<b>mine</b>", progress=False
    )
    text = page.read_text(encoding="utf-8")
    for heading in ("One event", "Occupancy around the beam", "Overlay on signal", "The sensor network"):
        assert f">{heading}</h2>" in text
    assert "&lt;b&gt;mine" in text
    assert "<b>mine" not in text
    figures = {path.stem for path in (tmp_path / "figures").glob("*.png")}
    assert {
        "event_unrolled",
        "sensors",
        "ladders_1",
        "ladders_phi",
        "occupancy_maps",
        "overlay",
        "rates",
    } <= figures
    assert text.count("data:image/png") == len(figures)
    assert PixelEvaluation.read(tmp_path / "metrics.json").to_dict() == same.to_dict()
