"""Pictures of single pixel events: a whole event unrolled, and single sensors.

Legend: ``S`` sensors, ``U`` × ``V`` cells.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from caloforge.data.pixels import PixelEvents
from caloforge.detector import PixelDetector
from caloforge.report.figures.sheet import Drawing, sheet
from caloforge.report.figures.style import GENERATED_NAME, REFERENCE_NAME

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Normalize

__all__ = ["draw_sensors", "draw_unrolled", "typical_events", "unrolled"]

Charges = NDArray[np.uint8]

COLOURS = "inferno"
BLOCK = (4, 4)
"""Cells of a whole event that are drawn as one, by their largest charge."""
GAP = 3
SHOWN_V = 384
SHOWN = 4


def typical_events(reference: PixelEvents, generated: PixelEvents) -> tuple[int, int]:
    """The true event with the median number of lit pixels, and the generated one nearest to it in its rates;
    where these are not known, the median as well."""
    true, made = reference.conditions, generated.conditions
    first = _median(reference)
    if true.sources != made.sources or not np.isfinite(true.rates[first]).all():
        return first, _median(generated)
    apart = np.abs(made.rates - true.rates[first]).sum(axis=1)
    return first, _median(generated) if np.isnan(apart).any() else int(np.argmin(apart))


def _median(events: PixelEvents) -> int:
    pixels = np.concatenate([hits.counts.sum(axis=1) for hits, _ in events.batches()])
    return int(np.argsort(pixels, kind="stable")[len(events) // 2])


def unrolled(
    detector: PixelDetector, layer: int, images: NDArray[np.generic], gap: int = 0
) -> NDArray[np.generic]:
    """A layer as one image: ladders from below in φ, along x the sensors by z, all v along z.

    Args:
        detector: the sensors.
        layer: from 0.
        images: of all sensors, (S, U, V).
        gap: empty rows and columns between sensors.
    """
    ladders: dict[int, list[tuple[float, NDArray[np.generic]]]] = {}
    for sensor, image in zip(detector.sensors, images, strict=True):
        if sensor.layer == layer:
            along = image[:, ::-1] if sensor.flip_v else image
            ladders.setdefault(sensor.ladder, []).append((float(sensor.centre[2]), along))
    rows = []
    for ladder in sorted(ladders):
        parts = [image for _, image in sorted(ladders[ladder], key=lambda part: part[0])]
        rows.append(np.concatenate(list(_spaced(parts, gap, axis=1)), axis=1))
    return np.concatenate(list(_spaced(rows, gap, axis=0)), axis=0)


def _spaced(parts: list[NDArray[np.generic]], gap: int, axis: int) -> Iterator[NDArray[np.generic]]:
    for i, part in enumerate(parts):
        if i and gap:
            shape = list(part.shape)
            shape[axis] = gap
            yield np.zeros(shape, dtype=part.dtype)
        yield part


def _blocks(images: Charges) -> Charges:
    """(S, U / 4, V / 4): the largest charge of each block."""
    for axis, step in ((1, BLOCK[0]), (2, BLOCK[1])):
        images = np.maximum.reduceat(images, np.arange(0, images.shape[axis], step), axis=axis)
    return images


def _norm(detector: PixelDetector) -> Normalize:
    from matplotlib.colors import LogNorm

    return LogNorm(detector.readout.threshold_adu / 4, detector.readout.largest_adu, clip=True)


def _paint(axes: Axes, image: NDArray[np.generic], norm: Normalize) -> None:
    from matplotlib import colormaps

    axes.imshow(
        np.ma.masked_equal(image, 0),
        cmap=COLOURS,
        norm=norm,
        origin="lower",
        aspect="auto",
        interpolation="nearest",
    )
    axes.set_facecolor(colormaps[COLOURS](0.0))
    axes.tick_params(which="both", length=0)


def draw_unrolled(
    detector: PixelDetector, reference: Charges, generated: Charges, folder: Path
) -> list[Drawing]:
    """One event of each sample with all its sensors, every layer unrolled: z across, φ upwards."""
    norm = _norm(detector)
    heights = [0.42 * layer.ladders for layer in detector.layers]
    width, left, gap, bottom = 5.0, 0.75, 0.15, 1.15
    total = bottom + sum(heights) + 0.35 * len(heights)
    with sheet(left + 2 * width + gap + 0.15, total) as page:
        for column, (name, images) in enumerate(((REFERENCE_NAME, reference), (GENERATED_NAME, generated))):
            top = total
            for i, height in enumerate(heights):
                top -= height + 0.35
                axes = page.axes(left + column * (width + gap), top, width, height)
                image = unrolled(detector, i, _blocks(images), GAP)
                _paint(axes, image, norm)
                ladders = detector.layers[i].ladders
                at = (np.arange(ladders) + 0.5) * image.shape[0] / ladders
                axes.set_yticks(at, [f"{i + 1}.{k + 1}" for k in range(ladders)] if not column else [])
                axes.set_xticks([])
                axes.set_title(f"{name}, layer {i + 1}", fontsize="medium")
                if not column:
                    axes.set_ylabel("ladder (φ)")
                if i == len(heights) - 1:
                    axes.set_xlabel("backward ← z → forward", loc="center")
        page.colour_bar(page.axes(left + 0.3 * width, 0.5, 1.4 * width, 0.12), norm, COLOURS, "charge (ADU)")
        return [
            page.save(
                folder,
                "event_unrolled",
                "One event of each sample, layers unrolled: Geant4’s with the median of lit pixels, the "
                f"generated one of the nearest rates. {BLOCK[0]} × {BLOCK[1]} cells drawn as one.",
                "All sensors of one event, Geant4 on the left and generated on the right.",
            )
        ]


def draw_sensors(
    detector: PixelDetector, reference: Charges, generated: Charges, folder: Path
) -> list[Drawing]:
    """A few sensors of the same events, cell by cell."""
    norm, n = _norm(detector), len(detector.sensors)
    shown = np.unique(np.linspace(0, n - 1, min(n, SHOWN)).astype(int))
    n_u, n_v = detector.shape[1], min(detector.shape[2], SHOWN_V)
    width, left, gap, bottom = 5.0, 0.75, 0.15, 1.15
    height = float(np.clip(width * n_u / n_v, 1.0, 5.0))
    total = bottom + len(shown) * (height + 0.35)
    with sheet(left + 2 * width + gap + 0.15, total) as page:
        for row, sensor in enumerate(shown.tolist()):
            for column, (name, images) in enumerate(
                ((REFERENCE_NAME, reference), (GENERATED_NAME, generated))
            ):
                axes = page.axes(
                    left + column * (width + gap), total - (row + 1) * (height + 0.35), width, height
                )
                _paint(axes, images[sensor, :, :n_v], norm)
                axes.set_title(f"{name}, sensor {detector.sensors[sensor].name}", fontsize="medium")
                if column:
                    axes.set_yticks([])
                else:
                    axes.set_ylabel("u (cells)")
                if row == len(shown) - 1:
                    axes.set_xlabel("v (cells)")
                else:
                    axes.set_xticks([])
        page.colour_bar(page.axes(left + 0.3 * width, 0.5, 1.4 * width, 0.12), norm, COLOURS, "charge (ADU)")
        names = ", ".join(detector.sensors[i].name for i in shown.tolist())
        return [
            page.save(
                folder,
                "sensors",
                f"Sensors {names} of these events, the first {n_v} cells along v.",
                f"Images of the sensors {names}, Geant4 on the left and generated on the right.",
            )
        ]
