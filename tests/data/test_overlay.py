"""Clusters of pixel events, and background laid over signal."""

import numpy as np
import pytest
from scipy.ndimage import label
from small_pixels import small_detector, small_events, small_hits

from caloforge import overlay
from caloforge.data.pixels import ArrayHits, PixelConditions, PixelEvents, PixelHits, find_clusters
from caloforge.data.pixels.hits import check_hits
from caloforge.errors import DataError


def hits_of(cells: dict[tuple[int, int, int, int], int], n: int = 1) -> PixelHits:
    """Hits by event, sensor, u and v."""
    images = np.zeros((n, *small_detector().shape), dtype=np.uint8)
    for place, charge in cells.items():
        images[place] = charge
    return PixelHits.from_dense(images)


def background_of(hits: PixelHits) -> PixelEvents:
    return PixelEvents(ArrayHits(hits), PixelConditions.unknown((), len(hits)), small_detector())


@pytest.mark.parametrize("connectivity", [4, 8])
def test_clusters_are_those_of_every_image_alone(connectivity):
    hits = small_hits(30, seed=1)
    found = find_clusters(hits, connectivity)
    images = hits.dense().reshape(-1, *hits.shape[1:])
    cross = [[0, 1, 0], [1, 1, 1], [0, 1, 0]]
    n = 0
    for image, charges in enumerate(images):
        labels, m = label(charges, np.ones((3, 3)) if connectivity == 8 else cross)
        mine = np.flatnonzero(found.image == image)
        assert len(mine) == m
        expected = set()
        for k in range(1, m + 1):
            u, v = np.nonzero(labels == k)
            expected.add((len(u), np.ptp(u) + 1, np.ptp(v) + 1, int(charges[u, v].sum())))
        columns = (found.pixels, found.size_u, found.size_v, found.charge)
        assert {tuple(int(c[i]) for c in columns) for i in mine} == expected
        n += m
    assert len(found) == n
    np.testing.assert_array_equal(np.bincount(found.label), found.pixels)


def test_edges_of_sensors_do_not_touch():
    """The last cell of a row and the first of the next, and cells of neighbouring sensors and events."""
    hits = hits_of(
        {(0, 0, 3, 11): 9, (0, 0, 4, 0): 9, (0, 0, 9, 11): 9, (0, 1, 0, 0): 9, (1, 0, 0, 0): 9}, n=2
    )
    assert len(find_clusters(hits)) == 5
    assert len(find_clusters(PixelHits.none(small_detector().shape))) == 0


def test_a_long_chain_is_one_cluster():
    """Labels run along a spiral of cells, not from neighbour to neighbour only once."""
    image = np.zeros((1, *small_detector().shape), dtype=np.uint8)
    for row in range(0, 10, 2):
        image[0, 3, row] = 50
        if row < 8:
            image[0, 3, row + 1, 0 if row % 4 else 11] = 50
    found = find_clusters(PixelHits.from_dense(image), 4)
    assert found.pixels.tolist() == [np.count_nonzero(image)]


def test_charges_add_up_are_cut_off_and_suppressed():
    cells = {(0, 1, 2, 3): 100, (0, 1, 2, 4): 200, (0, 1, 5, 5): 4, (0, 2, 0, 0): 4}
    signal = hits_of(cells)
    background = background_of(
        hits_of({(0, 1, 2, 3): 30, (0, 1, 2, 4): 90, (0, 2, 0, 0): 8, (0, 7, 9, 11): 7})
    )
    both = overlay(signal, background)
    check_hits(both, small_detector(), "overlay")
    expected = {(0, 1, 2, 3): 130, (0, 1, 2, 4): 255, (0, 2, 0, 0): 12, (0, 7, 9, 11): 7}
    np.testing.assert_array_equal(both.dense(), hits_of(expected).dense())


def test_background_is_taken_in_turn():
    events, signal = small_events(5), small_hits(8, seed=9)
    both = overlay(signal, events, first=3).dense().astype(int)
    background = events.read(0, 5).dense().astype(int)[[3, 4, 0, 1, 2, 3, 4, 0]]
    np.testing.assert_array_equal(both, np.minimum(signal.dense().astype(int) + background, 255))


def test_what_cannot_be_laid_over_is_refused():
    events = small_events(3)
    with pytest.raises(DataError, match="no background event"):
        overlay(small_hits(2), events[:0])
    other = PixelHits.from_dense(np.zeros((2, 8, 10, 11), dtype=np.uint8))
    with pytest.raises(DataError, match="both must be of the same detector"):
        overlay(other, events)
    beyond = small_hits(2)
    beyond.u[-1] = 10
    with pytest.raises(DataError, match="beyond the 10 × 12 cells"):
        overlay(beyond, events)
