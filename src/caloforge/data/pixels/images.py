"""The layout in which images of pixel sensors are published: a folder a sensor, a PNG file an event.

Folders are named after their sensors, ``1.1.1`` … ``2.12.2``, and sorted by these numbers, not as text, which
would put layer 1's ladder 10 before ladder 2. Each holds 8-bit grey images, (U, V), of the same names; the
events are in the order of the numbers in those, then of the names.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caloforge.data.pixels.events import PixelConditions, PixelEvents
from caloforge.data.pixels.hits import PixelHits, check_hits
from caloforge.detector.pixel import PixelDetector
from caloforge.errors import DataError, MissingDependencyError
from caloforge.runtime.locks import file_lock

__all__ = ["open_images", "write_images"]

NUMBERS = re.compile(r"\d+")


def _pillow() -> Any:
    try:
        from PIL import Image
    except ImportError:
        raise MissingDependencyError("pillow", "pixel") from None
    return Image


def _by_number(name: str) -> tuple[list[int], str]:
    return [int(digits) for digits in NUMBERS.findall(name)], name


def open_images(folder: Path, detector: PixelDetector | None = None) -> PixelEvents:
    """The events of a folder of folders of images, which are read when they are needed.

    Args:
        folder: one folder for each sensor, named after it.
        detector: by default the one of caloforge's that has sensors of these names.

    Raises:
        DataError: a sensor has no folder, a folder is of no sensor, or sensors have images of other names.
    """
    _pillow()
    folders = sorted(
        (path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")),
        key=_by_number,
    )
    if detector is None:
        detector = _detector_of(folder, folders)
    names = [sensor.name for sensor in detector.sensors]
    missing = [name for name in names if name not in folders]
    if missing:
        raise DataError(
            f"{folder}: {len(missing)} of the {len(names)} sensors of {detector.name} have no folder: "
            f"{_few(missing)}. An event needs the images of all sensors."
        )
    if others := [name for name in folders if name not in names]:
        raise DataError(f"{folder}: {detector.name} has no sensor {_few(others)}; remove these folders")
    images = _images(folder / names[0])
    for name in names[1:]:
        if different := sorted({*_images(folder / name)} ^ {*images}):
            raise DataError(
                f"{folder}: sensors {names[0]} and {name} have not the same images, only one of them has "
                f"{_few(different)}; an event needs an image of every sensor, all of one name"
            )
    made = {"action": "images", "folder": folder.name, "assumed": {"detector": detector.name}}
    sources = tuple(source.name for source in detector.sources)
    conditions = PixelConditions.unknown(sources, len(images))
    return PixelEvents(_StoredImages(folder, images, detector), conditions, detector, made)


def _few(names: list[str]) -> str:
    return ", ".join(names[:5]) + (" …" if len(names) > 5 else "")


def _images(folder: Path) -> list[str]:
    return sorted((path.name for path in folder.iterdir() if path.suffix.lower() == ".png"), key=_by_number)


def _detector_of(folder: Path, folders: list[str]) -> PixelDetector:
    known = [PixelDetector.load(name) for name in PixelDetector.names()]
    shared = [len({sensor.name for sensor in detector.sensors} & {*folders}) for detector in known]
    if not max(shared, default=0):
        raise DataError(
            f"{folder}: no folder is named after a sensor (1.1.1, …) of {', '.join(PixelDetector.names())}; "
            f"it has {_few(folders) or 'none'}"
        )
    best = [d for d, n in zip(known, shared, strict=True) if n == max(shared)]
    if len(best) > 1:
        raise DataError(
            f"{folder}: may be of {' or '.join(d.name for d in best)}; name one: "
            f"caloforge data convert {folder} FILE.h5 --detector NAME"
        )
    return best[0]


class _StoredImages:
    """Images in files."""

    def __init__(self, folder: Path, names: list[str], detector: PixelDetector) -> None:
        self._folder, self._names, self._detector = folder, names, detector

    def __len__(self) -> int:
        return len(self._names)

    def read(self, start: int, stop: int) -> PixelHits:
        """As `HitSource.read`."""
        sensors, n_u, n_v = self._detector.shape
        parts = []
        for i, name in enumerate(self._names[start:stop], start):
            event = np.empty((1, sensors, n_u, n_v), dtype=np.uint8)
            for k, sensor in enumerate(self._detector.sensors):
                event[0, k] = _image(self._folder / sensor.name / name, (n_u, n_v))
            parts.append(PixelHits.from_dense(event))
            check_hits(parts[-1], self._detector, f"{self._folder} ({name})", i)
        return PixelHits.concatenate(parts) if parts else PixelHits.none(self._detector.shape)


def _image(path: Path, shape: tuple[int, int]) -> NDArray[np.uint8]:
    try:
        with _pillow().open(path) as image:
            if image.mode != "L" or image.format != "PNG":
                raise DataError(
                    f"{path}: an 8-bit grey PNG image is needed, its values charges from 0 to 255 ADU; "
                    f"this is {image.format}, mode {image.mode}"
                )
            if image.size != shape[::-1]:
                height, width = image.size[::-1]
                raise DataError(
                    f"{path}: {height} × {width} pixels, and the sensor has {shape[0]} × {shape[1]} cells"
                )
            return np.asarray(image, dtype=np.uint8)
    except (OSError, ValueError, SyntaxError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path}: the image cannot be read ({error}); get it again") from error


def _require_images_alone(folder: Path, detector: PixelDetector) -> None:
    """Raise DataError where a folder that is to be replaced holds anything but images of sensors."""
    names = {sensor.name for sensor in detector.sensors}
    others = [path for path in folder.iterdir() if path.name not in names] if folder.is_dir() else [folder]
    others += [path for path in folder.glob("*/*") if path.suffix.lower() != ".png"]
    if others:
        raise DataError(
            f"{folder} is not replaced, since it holds more than images of sensors ({others[0].name}); "
            "choose another name"
        )


def write_images(
    events: PixelEvents,
    folder: str | os.PathLike[str],
    *,
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Write a folder for each sensor with an image of each event; all of them or none.

    The folder appears under its name when it is complete. Conditions and provenance are not in it.

    Raises:
        DataError: it exists, unless ``overwrite``, or cannot be written.
    """
    library, target = _pillow(), Path(folder)
    partial, before = (target.with_name(f"{target.name}.{end}") for end in ("partial", "before.partial"))
    digits = max(6, len(str(len(events))))
    with file_lock(target.with_name(f"{target.name}.images")):
        if target.exists():
            if not overwrite:
                raise DataError(f"{target} exists; choose another name or allow overwriting (--overwrite)")
            _require_images_alone(target, events.detector)
        try:
            shutil.rmtree(partial, ignore_errors=True)
            for sensor in events.detector.sensors:
                (partial / sensor.name).mkdir(parents=True)
            for i in range(len(events)):
                for sensor, image in zip(events.detector.sensors, events.dense(i), strict=True):
                    library.fromarray(image).save(partial / sensor.name / f"{i:0{digits}d}.png")
                if progress is not None:
                    progress(i + 1, len(events))
            if target.exists():
                target.rename(before)
            partial.rename(target)
            shutil.rmtree(before, ignore_errors=True)
        except OSError as error:
            raise DataError(f"cannot write {target}: {error.strerror or error}") from error
        finally:
            shutil.rmtree(partial, ignore_errors=True)
