"""Pixel events: files, images as they are published, bad input, the command line."""

import json
import re
from pathlib import Path

import damage
import h5py
import numpy as np
import pytest
from PIL import Image
from small_pixels import small_detector, small_events, small_hits
from typer.testing import CliRunner

from caloforge.cli.app import app
from caloforge.data import open_showers
from caloforge.data.pixels import (
    ArrayHits,
    PixelConditions,
    PixelEvents,
    PixelHits,
    PixelWriter,
    open_events,
    write_events,
    write_images,
)
from caloforge.data.pixels.hits import check_hits
from caloforge.errors import CaloforgeError, ConditionError, DataError

N = 45  # more than two batches


def same(a: PixelEvents, b: PixelEvents) -> None:
    one, other = a.read(0, len(a)), b.read(0, len(b))
    for name in ("counts", "u", "v", "charge"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    for name in ("rates", "seed", "number"):
        np.testing.assert_array_equal(getattr(a.conditions, name), getattr(b.conditions, name))
    assert a.conditions.sources == b.conditions.sources
    assert a.detector == b.detector


@pytest.fixture(scope="module")
def events() -> PixelEvents:
    return small_events(N, seed=3)


@pytest.fixture(scope="module")
def file(events: PixelEvents, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pixels") / "events.h5"
    write_events(events, path)
    return path


def append(path: Path, hits: PixelHits, conditions: PixelConditions) -> None:
    with PixelWriter(path, small_detector(), conditions.sources) as file:
        file.append(hits, conditions)


def run(*arguments: object) -> str:
    result = CliRunner().invoke(app, [*map(str, arguments)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


def test_dense_and_back():
    hits = small_hits(4)
    images = hits.dense()
    assert images.shape == (4, 8, 10, 12)
    assert images.dtype == np.uint8
    again = PixelHits.from_dense(images)
    for name in ("counts", "u", "v", "charge"):
        np.testing.assert_array_equal(getattr(hits, name), getattr(again, name))
    check_hits(again, small_detector(), "here")


def test_what_is_written_is_read(events, file):
    read = open_events(file)
    same(read, events)
    assert read.provenance["settings"] == events.provenance["settings"]
    assert read.provenance["n_events"] == N
    np.testing.assert_array_equal(read.extra["geant4_cpu_seconds"], events.extra["geant4_cpu_seconds"])
    assert [path.name for path in file.parent.iterdir()] == [file.name]


def test_events_are_sliced_lazily_and_anywhere(events, file):
    read = open_events(file)
    same(read[10:30:3], events[10:30:3])
    same(read[[44, 0, 7, 8]], events[[44, 0, 7, 8]])
    same(read[read.conditions.rates[:, 0] > 1], events[events.conditions.rates[:, 0] > 1])
    np.testing.assert_array_equal(read.dense(7), events.read(7, 8).dense()[0])
    assert [len(hits) for hits, _ in read.batches(20)] == [20, 20, 5]
    assert len(read[:0].read(0, 0)) == 0
    first, second = read.split(0.6, seed=1)
    numbers = np.concatenate([first.conditions.number, second.conditions.number])
    assert sorted(numbers) == list(range(N))
    same(PixelEvents.concatenate([read[:20], read[20:]]), events)


def test_only_what_is_asked_for_is_read(events, tmp_path):
    write_events(events, tmp_path / "a.h5")
    with h5py.File(tmp_path / "a.h5", "r+") as stored:
        stored["hits/charge"][-1] = 3
    read = open_events(tmp_path / "a.h5")
    read.read(0, N - 1)
    with pytest.raises(
        DataError, match=f"event {N - 1}, sensor .* of 3 ADU has a charge below the threshold of 7"
    ):
        read.read(N - 1, N)


def test_an_error_leaves_no_file(events, tmp_path):
    sources = events.conditions.sources
    with pytest.raises(DataError, match="2 events need as many rates"):
        append(tmp_path / "a.h5", small_hits(2), PixelConditions.unknown(sources, 1))
    assert not list(tmp_path.iterdir())
    with PixelWriter(tmp_path / "empty.h5", events.detector, sources):
        pass
    assert len(open_events(tmp_path / "empty.h5")) == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"charge": 6}, "sensor 1.2.1: the hit at u .* of 6 ADU has a charge below the threshold of 7 ADU"),
        ({"u": 10}, "beyond the 10 × 12 cells"),
        ({"v": 12}, "beyond the 10 × 12 cells"),
        ({"u": 0, "v": 0}, "out of order, or the second one on its cell"),
    ],
)
def test_illegal_hits_are_refused(events, tmp_path, change, message):
    hits = small_hits(3)
    i = int(np.flatnonzero((hits.event == 1) & (hits.sensor == 2))[1])
    for name, value in change.items():
        getattr(hits, name)[i] = value
    with pytest.raises(DataError, match=message) as told:
        append(tmp_path / "a.h5", hits, PixelConditions.unknown(events.conditions.sources, 3))
    assert "event 1" in str(told.value)
    assert not list(tmp_path.iterdir())


def test_charges_beyond_the_read_out_are_refused():
    hits = small_hits(3)
    readout = small_detector().to_dict()["readout"] | {"bits": 7}
    with pytest.raises(DataError, match="above 127 ADU"):
        check_hits(hits, small_detector(readout=readout), "here")


def test_rates_are_not_negative():
    rates = np.array([[1.0, 1.0], [1.0, -0.5]])
    with pytest.raises(ConditionError, match=r"event 1 has -0.5 as rate of b; .* 0 or more"):
        PixelConditions(("a", "b"), rates, np.zeros(2, dtype=np.uint64), np.arange(2))


def damaged(file: Path, tmp_path: Path, change) -> Path:
    path = tmp_path / "damaged.h5"
    path.write_bytes(file.read_bytes())
    with h5py.File(path, "r+") as stored:
        change(stored)
    return path


def test_files_that_do_not_fit_together_are_refused(file, tmp_path):
    def as_text(stored):
        names = stored["sensors"][:]
        stored["sensors"][...] = names[[1, 0, *range(2, 8)]]

    def negative(stored):
        stored["rates"][3, 1] = -1

    def shifted(stored):
        stored["index/first"][5] += 1

    def newer(stored):
        stored.attrs["caloforge_pixel_format"] = 2

    def shorter(stored):
        stored["index/counts"].resize(N - 1, axis=0)

    for change, message in (
        (as_text, "not in the order of their numbers: number 0 is 1.1.2 instead of 1.1.1.*text"),
        (negative, "event 3 has -1 as rate of single_beam"),
        (newer, "newer caloforge"),
        (shorter, "does not fit the others"),
    ):
        with pytest.raises(DataError, match=message):
            open_events(damaged(file, tmp_path, change))
    with pytest.raises(DataError, match="index of events"):
        open_events(damaged(file, tmp_path, shifted)).read(0, N)
    with pytest.raises(DataError, match="no such file"):
        open_events(tmp_path / "nothing.h5")
    with pytest.raises(DataError, match="events of a pixel detector, and showers are needed"):
        open_showers(file)


def test_images_are_read_in_the_order_of_numbers(tmp_path):
    """As text, ladder 10 would come before ladder 2, and image 10 before image 9."""
    detector = small_detector()
    many = detector.to_dict()
    for layer in many["layers"]:
        layer["ladders"] = 11
    many = type(detector).from_dict(many | {"name": "many"})
    images = np.zeros((11, *many.shape), dtype=np.uint8)
    images[..., 0, 0] = 7 + np.arange(44)  # a charge for each sensor
    images[..., 0, 1] = 7 + np.arange(11)[:, None]  # and for each event
    conditions = PixelConditions.unknown((), 11)
    written = PixelEvents(ArrayHits(PixelHits.from_dense(images)), conditions, many)
    write_images(written, tmp_path / "images")
    for folder in (tmp_path / "images").iterdir():  # as others number them
        for path in folder.iterdir():
            path.rename(folder / f"event_{int(path.stem)}.png")
    read = open_events(tmp_path / "images", many)
    np.testing.assert_array_equal(read.read(0, 11).dense(), images)
    assert np.isnan(read.conditions.rates).all()


def test_images_of_the_published_layout(tmp_path):
    from caloforge.detector import PixelDetector

    detector = PixelDetector.load("belle2-pxd")
    images = np.zeros((1, *detector.shape), dtype=np.uint8)
    images[0, :, 100, :300] = np.arange(40, dtype=np.uint8)[:, None] + 7
    events = PixelEvents(ArrayHits(PixelHits.from_dense(images)), PixelConditions.unknown((), 1), detector)
    write_images(events, tmp_path / "images")
    assert len(list((tmp_path / "images").iterdir())) == 40
    with Image.open(tmp_path / "images" / "2.12.2" / "000000.png") as image:
        assert image.size == (768, 250)
    read = open_events(tmp_path / "images")  # whose detector the names of the folders tell
    assert read.detector == detector
    np.testing.assert_array_equal(read.dense(0), images[0])
    (tmp_path / "images" / "2.10.1" / "000000.png").unlink()
    (tmp_path / "images" / "2.10.1").rmdir()
    with pytest.raises(DataError, match=r"1 of the 40 sensors of belle2-pxd have no folder: 2\.10\.1"):
        open_events(tmp_path / "images")


def test_images_that_cannot_be_events_are_refused(tmp_path):
    detector, folder = small_detector(), tmp_path / "images"
    write_images(small_events(2), folder)

    def read():
        return open_events(folder, detector).read(0, 2)

    path = folder / "1.2.1" / "000001.png"
    good = path.read_bytes()
    Image.fromarray(np.zeros((12, 10), dtype=np.uint8)).save(path)
    with pytest.raises(
        DataError, match=r"1\.2\.1/000001\.png: 12 × 10 pixels, and the sensor has 10 × 12 cells"
    ):
        read()
    Image.fromarray(np.full((10, 12), 300, dtype=np.uint16)).save(path)
    with pytest.raises(DataError, match="charges from 0 to 255 ADU; this is PNG, mode I;16"):
        read()
    Image.fromarray(np.full((10, 12), 6, dtype=np.uint8)).save(path)
    with pytest.raises(DataError, match=r"event 1, sensor 1\.2\.1: .* of 6 ADU .*threshold of 7"):
        read()
    path.write_bytes(good[:60])
    with pytest.raises(DataError, match="cannot be read"):
        read()
    path.unlink()
    with pytest.raises(DataError, match=r"1\.1\.1 and 1\.2\.1 have not the same images.*000001\.png"):
        read()
    path.write_bytes(good)
    (folder / "3.1.1").mkdir()
    with pytest.raises(DataError, match=r"small has no sensor 3\.1\.1"):
        read()
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no folder is named after a sensor"):
        open_events(tmp_path / "empty")


def test_nothing_else_in_a_folder_is_lost(tmp_path):
    events, folder = small_events(2), tmp_path / "images"
    write_images(events, folder)
    with pytest.raises(DataError, match="exists"):
        write_images(events, folder)
    write_images(events[:1], folder, overwrite=True)
    assert len(open_events(folder, events.detector)) == 1
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(DataError, match=r"more than images of sensors \(notes\.txt\)"):
        write_images(events, folder, overwrite=True)
    assert (folder / "notes.txt").read_text() == "mine"


def test_commands(events, file, tmp_path):
    facts = json.loads(run("data", "info", file, "--check", "--json"))
    assert facts["events"] == facts["looked_at"] == N
    hits = events.read(0, N)
    assert facts["pixels"] == pytest.approx(len(hits.u) / N)
    assert facts["charge"][1] == pytest.approx(hits.charge.mean())
    assert "rate of two_photon" in run("data", "info", file)
    run("data", "split", file, "--parts", "0.6,0.4", "--names", "a,b", "--folder", tmp_path, "--seed", 1)
    parts = [open_events(tmp_path / f"events_{name}.h5") for name in "ab"]
    assert [len(part) for part in parts] == [27, 18]
    run("data", "merge", tmp_path / "all.h5", tmp_path / "events_a.h5", tmp_path / "events_b.h5")
    merged = open_events(tmp_path / "all.h5")
    same(merged[np.argsort(merged.conditions.number)], events)
    run("data", "convert", file, tmp_path / "images", "--layout", "png")
    read = open_events(tmp_path / "images", events.detector)
    np.testing.assert_array_equal(read.read(0, N).dense(), hits.dense())


def test_commands_refuse(events, file, tmp_path):
    def fails(message: str, *arguments: object) -> None:
        with pytest.raises(CaloforgeError, match=message):
            run(*arguments)

    other = events.detector.to_dict() | {"field_tesla": 1.0}
    changed = PixelEvents(
        ArrayHits(events.read(0, N)), events.conditions, type(events.detector).from_dict(other), {}, {}
    )
    write_events(changed, tmp_path / "other.h5")
    showers = tmp_path / "showers.h5"
    with h5py.File(showers, "w") as made:
        made["incident_energies"] = np.ones((2, 1))
    out = tmp_path / "out.h5"
    fails("differ in field_tesla", "data", "merge", out, file, tmp_path / "other.h5")
    fails(f"hold the same events: {N} of the same seed", "data", "merge", out, file, file)
    fails("cannot be treated as one", "data", "merge", out, file, showers)
    fails("--coarsen has no meaning", "data", "convert", file, out, "--coarsen", "1,1,1")
    fails(
        "layout 'calochallenge' is none of pixel events", "data", "split", file, "--layout", "calochallenge"
    )
    fails(re.escape(f"{file} exists"), "data", "convert", file, file)
    assert not out.exists()


def edit(path: Path, random: np.random.Generator) -> None:
    """Change a data set or an attribute of a file."""
    with h5py.File(path, "a") as stored:
        names: list[str] = []
        stored.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
        change = random.choice([*damage.OF_SETS[:-1], None])
        if change is not None:
            change(stored, str(random.choice(names)), random)
            return
        key = random.choice(["detector", "sources", "provenance", "caloforge_pixel_format"])
        stored.attrs[str(key)] = str(random.choice(["", "{}", "[1]", "7", "{" * 900]))


def test_damaged_files_are_refused_or_right(events, file, tmp_path):
    """Whatever is done to a file, a read ends in an error of ours or, of damaged bytes, in right numbers."""
    refused = 0
    for number in range(80):
        random, path = np.random.default_rng(number), tmp_path / f"{number}.h5"
        of_bytes = random.random() < 0.5
        path.write_bytes(file.read_bytes())
        if of_bytes:
            path.write_bytes(random.choice(damage.OF_BYTES)(file.read_bytes(), random))
        else:
            edit(path, random)
        try:
            read = open_events(path)
            read.read(0, len(read))
        except CaloforgeError:
            refused += 1
            continue
        if of_bytes:
            same(read, events)
    assert refused > 40
