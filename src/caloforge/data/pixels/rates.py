"""Rate factors of the sources of background, for each event, from what a user asks for."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from caloforge.detector.pixel import PixelDetector, Span
from caloforge.errors import ConditionError
from caloforge.runtime.streams import normals, uniforms

__all__ = ["Rate", "event_rates", "parse_rates"]

Rate = float | str | tuple[float, float] | Mapping[str, float | str | tuple[float, float]]
ALL = "all"


def parse_rates(rate: Rate, detector: PixelDetector) -> dict[str, Span]:
    """Ranges of the factors, by source, and under "all" that of a common one for those not named.

    ``"0.5-2"``, ``"two_photon=1,single_beam=0.5-2"``, a number, a pair, or a mapping of those by source.
    Raises ConditionError where one is malformed, negative or of a source that the detector does not have.
    """
    parts: list[tuple[str, float | str | tuple[float, float]]] = []
    if isinstance(rate, Mapping):
        parts = list(rate.items())
    elif isinstance(rate, str):
        for text in rate.split(","):
            name, equals, factor = text.rpartition("=")
            parts.append((name.strip() if equals else ALL, factor))
    else:
        parts = [(ALL, rate)]
    known = [source.name for source in detector.sources]
    ranges = {ALL: (1.0, 1.0)}
    for name, value in parts:
        if name not in (ALL, *known):
            raise ConditionError(
                f"{detector.name} has no source {name!r} of background; it has {', '.join(known)}"
            )
        ranges[name] = _span(value)
    return ranges


def _span(value: float | str | tuple[float, float]) -> Span:
    try:
        if isinstance(value, str):
            low, dash, high = value.strip().partition("-")
            span = float(low), float(high if dash else low)
        elif isinstance(value, tuple | list):
            span = float(value[0]), float(value[1])
        else:
            span = float(value), float(value)
    except (TypeError, ValueError, IndexError):
        span = math.nan, math.nan
    if not 0 <= span[0] <= span[1] < math.inf or (span[0] == 0 and span[1] > 0):
        raise ConditionError(
            f"rate {value!r}: expected a factor of the nominal rate that is not negative, such as 1, or a "
            "range above 0, such as 0.5-2"
        )
    return span


def event_rates(
    detector: PixelDetector,
    ranges: Mapping[str, Span],
    seed: int,
    numbers: NDArray[np.int64],
    *,
    streams: str = "pixel",
) -> NDArray[np.float64]:
    """Factors of the detector's sources for events (n,): (n, B), log-uniform in their ranges.

    Sources that are named have exactly these; the others share one factor, times one of their own, which
    spreads around 1 as the detector file says. ``streams`` is what the names of the streams begin with: what
    draws from one seed under two names shares no numbers.
    """
    u = uniforms(seed, numbers, f"{streams}.rate", 1 + len(detector.sources))
    z = normals(seed, numbers, f"{streams}.spread", len(detector.sources)).astype(np.float64)
    columns = []
    for i, source in enumerate(detector.sources):
        if source.name in ranges:
            columns.append(_log_uniform(ranges[source.name], u[:, 1 + i]))
            continue
        spread = source.rate_spread
        own = np.exp(spread * z[:, i] - spread**2 / 2)  # of mean 1
        columns.append(_log_uniform(ranges[ALL], u[:, 0]) * own)
    return np.stack(columns, axis=1)


def _log_uniform(span: Span, u: NDArray[np.float64]) -> NDArray[np.float64]:
    low, high = span
    return np.full_like(u, low) if low == high else np.asarray(low * (high / low) ** u)
