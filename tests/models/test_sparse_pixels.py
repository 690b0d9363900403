"""The generator of clusters: its parts against events of which all is known, and the exported module."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from cluster_pixels import PAIRS, SINGLES, cluster_detector, cluster_events
from small_pixels import small_events
from toy_pixels import RECIPE
from typer.testing import CliRunner

from caloforge.cli.app import app
from caloforge.detector import PixelMesh
from caloforge.errors import CheckpointError
from caloforge.exports import export
from caloforge.generation import generate_events
from caloforge.models.pixels.sparse.clusters import END, SAME, SIDE, find_clusters
from caloforge.models.pixels.sparse.counter import uniforms
from caloforge.models.pixels.sparse.model import SparsePixels
from caloforge.models.pixels.sparse.numbers import fit_numbers
from caloforge.models.pixels.sparse.sampler import place_edges
from caloforge.models.pixels.sparse.shape import charge_edges, size_class, step_of
from caloforge.runtime import streams
from caloforge.training import train


@pytest.fixture(scope="module")
def events():
    return cluster_events(240)


@pytest.fixture(scope="module")
def checkpoint(events, tmp_path_factory):
    return train("pxd-clusters-small", events, out=tmp_path_factory.mktemp("m") / "m", progress=False)


def columns(events):
    hits = events.read(0, len(events))
    image = hits.event * hits.shape[0] + hits.sensor
    return [torch.from_numpy(x.astype(np.int64)) for x in (image, hits.u, hits.v, hits.charge)]


def test_random_numbers_are_those_of_the_streams():
    seed, number = (5 << 32) + 7, (3 << 32) + 11
    key = torch.tensor([7, 5, 11, 3])
    stream = streams.stream_id("a")
    words = streams._words(seed, np.array([number], dtype=np.uint64), "a", 1001)[0] >> 8
    numbers = uniforms(key, stream, 1001)
    assert np.array_equal(numbers, ((words.astype(np.float32) + np.float32(0.5)) * np.float32(2**-24)))
    assert torch.equal(uniforms(key, stream, 10), numbers[:10])
    assert len(uniforms(key, stream, 0)) == 0


def test_clusters_are_those_of_a_flood_fill():
    random = np.random.default_rng(1)
    images = random.random((6, 20, 30)) < 0.25
    image, u, v = (torch.from_numpy(x) for x in np.nonzero(images))
    order = torch.randperm(len(u), generator=torch.Generator().manual_seed(0))
    found = find_clusters(image[order], u[order], v[order], torch.arange(len(u))[order])
    seen, sizes = np.zeros_like(images), []
    for start in zip(*np.nonzero(images), strict=True):
        todo, size = [start], 0
        while todo:
            i, a, b = todo.pop()
            if 0 <= a < 20 and 0 <= b < 30 and images[i, a, b] and not seen[i, a, b]:
                seen[i, a, b], size = True, size + 1
                todo += [(i, a + da, b + db) for da in (-1, 0, 1) for db in (-1, 0, 1)]
        sizes.append(size)
    assert sorted(found.size.tolist()) == sorted(size for size in sizes if size)
    assert sorted(found.charge.tolist()) == list(range(len(u)))
    order = found.cluster * 10**6 + found.v * 1000 + found.u
    assert (order.diff() > 0).all()
    assert torch.equal(found.image[found.cluster], image[found.charge])
    assert torch.equal(found.first, torch.nonzero(found.rank == 0).squeeze(1))
    empty = torch.zeros(0, dtype=torch.int64)
    assert len(find_clusters(empty, empty, empty, empty)) == 0


def test_steps_bins_and_classes():
    u, row = torch.tensor([5, 5, 5]), torch.tensor([3, 3, 3])
    steps = step_of(u, torch.tensor([1, 1, 1]), row, torch.tensor([6, 2, 40]), torch.tensor([1, 2, 2]))
    assert steps.tolist() == [0, SAME + SIDE - 1, END - 1]
    assert size_class(torch.tensor([1, 12, 13, 15, 16, 5000])).tolist() == [0, 11, 12, 12, 13, 23]
    edges = charge_edges(7, 255)
    assert edges[:3] == [7, 8, 9]
    assert edges[-1] == 256
    assert (np.diff(edges) > 0).all()
    for cells in (5, 100, 250, 768):
        edges = place_edges(cells, 6)
        assert (edges[0], edges[-1]) == (0, cells)
        assert (np.diff(edges) > 0).all()


def test_numbers_are_told_apart_by_source_freed_of_overlaps_and_correlated():
    random, detector = np.random.default_rng(0), cluster_detector()
    n, groups = 3000, np.array([0, 1])
    rates = random.uniform(0.5, 2, (n, 2))
    sigma = 0.2 / np.sqrt(rates.mean(axis=1))
    common = np.exp(random.normal(0, sigma) - sigma**2 / 2)
    first = random.poisson(300 * rates[:, :1] * (1 - 0.05 * rates.mean(axis=1, keepdims=True)), (n, 8))
    second = random.poisson(100 * rates[:, 1:] * common[:, None], (n, 8))
    fitted = fit_numbers(np.stack([first, second], 2).astype(float), rates, detector, groups, 16)
    assert fitted.means[0, :, 0] == pytest.approx(300, rel=0.03)
    assert fitted.means[1, :, 0] == pytest.approx(0, abs=8)
    assert fitted.means[1, :, 1] == pytest.approx(100, rel=0.05)
    covariance = (fitted.factors @ fitted.factors.T).reshape(8, 2, 8, 2)
    assert covariance[:, 1, :, 1] == pytest.approx(0.04, rel=0.3)
    assert np.abs(covariance[:, 0, :, 0]).max() < 0.005


def test_events_are_like_those_it_learned_from(checkpoint, events):
    made = generate_events(checkpoint, like=events, seed=1, progress=False)
    real, ours = (x.read(0, len(x)) for x in (events, made))
    assert ours.counts.sum(axis=0) == pytest.approx(real.counts.sum(axis=0), rel=0.08)
    assert ours.counts.sum() == pytest.approx(real.counts.sum(), rel=0.03)
    assert ours.charge.mean() == pytest.approx(real.charge.mean(), rel=0.03)
    share = [
        np.bincount(hits.charge, minlength=256)[[10, 20, 40]] / len(hits.charge) for hits in (real, ours)
    ]
    assert share[1] == pytest.approx(share[0], rel=0.1)
    upper = [(hits.u >= 32).mean() for hits in (real, ours)]
    assert upper[1] == pytest.approx(upper[0], abs=0.02)
    sizes = [np.bincount(find_clusters(*columns(x)).size.clamp_max(4), minlength=5) for x in (events, made)]
    assert sizes[1][1:3] == pytest.approx(sizes[0][1:3], rel=0.1)
    each = [hits.counts / x.conditions.rates[:, 1:] for hits, x in ((real, events), (ours, made))]
    correlations = [np.corrcoef(x.T)[np.triu_indices(8, 1)].mean() for x in each]
    assert correlations[1] == pytest.approx(correlations[0], abs=0.12)


def test_numbers_follow_each_rate_far_beyond_the_trained_range(checkpoint):
    sources = [source.name for source in cluster_detector().sources]
    for rates, pixels, error in (
        ((4.0, 4.0), 4 * (SINGLES + 2 * PAIRS) * 0.98, 0.05),  # two in a hundred lie over each other
        ((4.0, 0.001), 4 * SINGLES, 0.3),
        ((0.001, 4.0), 8 * PAIRS, 0.15),
        ((0.0, 0.0), 0, 0.1),
    ):
        rate = dict(zip(sources, rates, strict=True))
        made = generate_events(checkpoint, n=20, rate=rate, seed=2, progress=False)
        assert made.read(0, 20).counts.mean() == pytest.approx(pixels, rel=error, abs=0.1)


def test_an_event_does_not_depend_on_those_beside_it(checkpoint):
    model = checkpoint.pixel_model()
    with torch.no_grad():
        noise = model.noise(4, torch.Generator().manual_seed(0))
        rates = torch.tensor([[1.0, 1.0], [0.5, 2.0], [3.0, 0.0], [1.0, 1.0]])
        whole = model.decode(noise, rates)
        alone = model.decode({name: x[2:3] for name, x in noise.items()}, rates[2:3])
        assert torch.equal(whole[2], alone[0])
        assert np.array_equal(model.hits(noise, rates).dense(), whole)
        assert not torch.equal(whole[0], whole[3])


SCRIPT = """
import sys, torch
sys.modules["caloforge"] = None
module = torch.jit.load(sys.argv[1])
image = module(3, 5, torch.tensor([1.5, 0.5]))
assert image.dtype == torch.uint8
assert torch.equal(module(3), module(3, 0, torch.ones(2)))
torch.save(image, sys.argv[2])
"""


def test_the_exported_module_makes_the_same_events_without_caloforge(checkpoint, tmp_path):
    done = CliRunner().invoke(app, ["export", str(checkpoint.path), "-o", str(tmp_path / "m.pt")])
    assert done.exit_code == 0, done.output
    subprocess.run([sys.executable, "-c", SCRIPT, tmp_path / "m.pt", tmp_path / "image.pt"], check=True)
    image = torch.load(tmp_path / "image.pt")
    rate = dict(zip((s.name for s in cluster_detector().sources), (1.5, 0.5), strict=True))
    event = generate_events(checkpoint, n=1, first=5, seed=3, rate=rate, progress=False)
    assert np.array_equal(image, event.dense(0))
    with pytest.raises(CheckpointError, match="exists"):
        export(checkpoint, out=tmp_path / "m.pt")


def test_what_cannot_be_exported_is_refused(tmp_path):
    toy = train(RECIPE, small_events(10), out=tmp_path / "toy", progress=False)
    with pytest.raises(CheckpointError, match="cannot be exported"):
        export(toy, out=tmp_path / "m.pt")
    with pytest.raises(CheckpointError, match="events of pixel detectors are exported to torchscript alone"):
        export(toy, out=tmp_path / "m.onnx")
    assert not (tmp_path / "m.pt").exists()


def test_empty_events_can_be_trained_on_and_made(tmp_path):
    events = cluster_events(6, low=0.0, high=0.0)
    changes = {"training.steps": 2}
    empty = train("pxd-clusters-small", events, out=tmp_path / "m", overrides=changes, progress=False)
    assert generate_events(empty, n=2, progress=False).read(0, 2).counts.sum() == 0
    assert PixelMesh(events.detector) == empty.mesh
    assert isinstance(empty.pixel_model(), SparsePixels)
