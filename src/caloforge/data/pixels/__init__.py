"""Events of pixel detectors and the files they live in."""

from __future__ import annotations

import os
from pathlib import Path

from caloforge.data.formats.base import PIXEL_FORMAT
from caloforge.data.formats.hdf5 import open_file
from caloforge.data.pixels.clusters import Clusters, find_clusters
from caloforge.data.pixels.events import ArrayHits, PixelConditions, PixelEvents
from caloforge.data.pixels.file import PixelWriter, open_pixel_file, write_events
from caloforge.data.pixels.hits import PixelHits
from caloforge.data.pixels.images import open_images, write_images
from caloforge.data.pixels.overlay import overlay
from caloforge.detector.pixel import PixelDetector
from caloforge.errors import DataError

__all__ = [
    "ArrayHits",
    "Clusters",
    "PixelConditions",
    "PixelEvents",
    "PixelHits",
    "PixelWriter",
    "find_clusters",
    "holds_events",
    "open_events",
    "overlay",
    "write_events",
    "write_images",
]


def open_events(
    path: PixelEvents | str | os.PathLike[str], detector: PixelDetector | None = None
) -> PixelEvents:
    """Open a file of pixel events, or a folder of images as they are published, lazily.

    Args:
        path: the file or folder; events are returned as they are.
        detector: whose sensors the images are of; by default told from the names of their folders.

    Raises:
        DataError: it is missing, damaged or inconsistent.
    """
    if isinstance(path, PixelEvents):
        return path
    path = Path(path)
    return open_images(path, detector) if path.is_dir() else open_pixel_file(path)


def holds_events(path: Path) -> bool:
    """Whether a file holds pixel events, or a folder may, rather than showers."""
    if path.is_dir():
        return True
    try:
        with open_file(path) as file:
            return PIXEL_FORMAT in file.attrs
    except DataError:  # which whoever opens it tells
        return False
