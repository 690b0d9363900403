"""A worker process: runs chunks of pixel events with Geant4 and stores each in a file of its own.

A `caloforge.runtime.processes.Child` of `caloforge.geant4.pool`, as `caloforge.geant4.worker` is for showers.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from caloforge.data.pixels.hits import PixelHits, check_hits
from caloforge.data.pixels.rates import event_rates
from caloforge.detector.pixel import PixelDetector
from caloforge.runtime.chunks import Chunk
from caloforge.runtime.processes import Channel, serve_and_leave

__all__ = ["work"]


def work(channel: Channel) -> None:
    """Make chunks until there are no more orders."""
    from caloforge.geant4.pixel.digitise import digitise
    from caloforge.geant4.pixel.engine import PixelEngine

    orders = iter(channel)
    settings = next(orders)
    detector, seed = PixelDetector.from_dict(settings["detector"]), settings["seed"]
    engine = PixelEngine(detector, official=settings["official"])
    channel.send({"ready": True})
    for order in orders:
        start, stop = order["start"], order["stop"]
        numbers = np.arange(start, stop, dtype=np.int64) + settings.get("first", 0)
        rates = event_rates(detector, settings["rates"], seed, numbers)
        events: list[PixelHits] = []
        seconds: list[float] = []

        def done(number: int, deposits: Any, cpu: float) -> None:
            events.append(digitise(deposits, detector, seed, number))  # noqa: B023
            seconds.append(cpu)  # noqa: B023
            channel.send({"shower": number})

        engine.run(rates, numbers, seed, done)
        hits = PixelHits.concatenate(events)
        check_hits(hits, detector, "Geant4", start)
        columns = {**hits.columns(), "rates": rates, "seconds": np.array(seconds)}
        Chunk(start, stop, Path(order["path"])).write(columns)
        channel.send({"chunk": start})


if __name__ == "__main__":
    serve_and_leave(work)
