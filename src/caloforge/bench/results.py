"""What a benchmark returns: its numbers, their file and their table."""

from __future__ import annotations

import math
from typing import ClassVar

from pydantic import Field
from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from caloforge.evaluation.results.base import Details, Document, Number, Result

__all__ = ["BenchResult", "BenchRow", "Geant4Time"]


class Geant4Time(Result):
    """Processor time of Geant4 in one process, at the energies of the generated showers."""

    showers: int = 0
    """How many were simulated; 0 if none."""
    ms: Number = math.nan
    """Mean per shower."""
    ms_error: Number = math.nan
    """Its standard error from the spread of time per energy."""
    mean_energy_mev: Number = math.nan
    """Mean incident energy of these showers."""
    physics: str = ""
    """Physics list and data."""
    remark: str = ""
    """Why there is no number."""


class BenchRow(Result):
    """One configuration, measured in a process of its own."""

    device: str
    """``cpu``, ``cuda``, …"""
    threads: int
    """CPU threads of torch."""
    batch_size: int
    """Showers given to the model at once."""
    repetitions: int = 0
    """Batches that were timed."""
    ms: Number = math.nan
    """Mean elapsed time per shower over the repetitions; NaN where nothing was measured."""
    ms_std: Number = math.nan
    """Standard deviation over the repetitions; NaN for one."""
    ms_min: Number = math.nan
    """The smallest."""
    processor_ms: Number = math.nan
    """Mean processor time per shower, summed over the threads. With one CPU thread it is below ``ms`` only
    where other programs took the processor."""
    peak_memory_mib: Number = math.nan
    """Of the whole process on a CPU, of the tensors on a GPU."""
    memory_before_mib: Number = math.nan
    """The same when the model was loaded and nothing was generated."""
    speed_up: Number = math.nan
    """Geant4's processor time over ``processor_ms`` with one CPU thread, else over ``ms``."""
    execution: str = ""
    """Device, precision and kernels with which it was measured."""
    times: tuple[Number, ...] = ()
    """ms per shower of each repetition."""
    remark: str = ""
    """Why something was not measured."""

    @property
    def key(self) -> tuple[str, int, int]:
        """Device, threads and batch size, which name the configuration."""
        return self.device, self.threads, self.batch_size


class BenchResult(Document):
    """Times of one checkpoint on one machine, the layout of the file."""

    layout: ClassVar[int] = 1
    noun: ClassVar[str] = "benchmark"

    checkpoint: Details
    """``path``, ``fingerprint``, ``model``, ``mesh``, ``changed_settings``."""
    parameters: int
    """Numbers in the model that were trained."""
    model_mib: Number
    """Size of the file with its weights; 0 where there is none."""
    blocks: dict[str, int]
    """Showers that `generate` gives the model at once by default, on a ``cpu`` and on a ``gpu``."""
    conditions: Details
    """``energy`` [MeV], ``theta``, ``phi`` ranges, mean energy, and a digest of all of them."""
    machine: Details
    """Processor, cores, memory, GPU, versions, and the load average at the start."""
    geant4: Geant4Time
    """What the showers cost in Geant4."""
    rows: list[BenchRow]
    """One for each configuration."""
    warnings: list[str] = Field(default_factory=list)
    """Plain sentences."""
    provenance: Details = Field(default_factory=dict)
    """Of the benchmark."""

    def summary(self) -> Table:
        """One row a configuration."""
        table = Table(
            box=SIMPLE_HEAD,
            caption_justify="left",
            title=f"{self.checkpoint['model']}: {self.parameters:,} parameters, {self.model_mib:.1f} MiB; "
            f"{self.machine['processor']}" + (f", {self.machine['gpu']}" if self.machine.get("gpu") else ""),
        )
        for column in ("threads", "batch", "ms a shower", "least", "CPU ms", "n", "MiB", "speed-up"):
            table.add_column(column, justify="left" if column == "threads" else "right", no_wrap=True)
        for row in self.rows:
            where = (f"{row.device} × {row.threads}", f"{row.batch_size:,}")
            if row.repetitions:
                spread = "" if math.isnan(row.ms_std) else f" ± {_number(row.ms_std, 2)}"
                table.add_row(
                    *where,
                    _number(row.ms) + spread,
                    _number(row.ms_min),
                    _number(row.processor_ms),
                    str(row.repetitions),
                    f"{row.peak_memory_mib:.0f}",
                    _number(row.speed_up),
                )
            else:
                table.add_row(*where, "–")
        notes = [
            f"{r.device} × {r.threads}, batch {r.batch_size:,}: {r.remark}" for r in self.rows if r.remark
        ]
        executions = dict.fromkeys(row.execution for row in self.rows if row.execution)
        notes[:0] = [f"measured on {execution}" for execution in executions]
        geant4 = self.geant4
        if geant4.showers:
            notes.insert(
                0,
                f"Geant4: {geant4.ms:.0f} ± {geant4.ms_error:.0f} ms of processor time a shower, "
                f"{geant4.showers} showers of {geant4.mean_energy_mev / 1000:.3g} GeV on average",
            )
        elif geant4.remark:
            notes.insert(0, f"Geant4: {geant4.remark}")
        table.caption = escape("\n".join(notes + self.warnings))
        return table


def _number(value: float, digits: int = 3) -> str:
    if math.isnan(value):
        return "–"
    return f"{value:,.0f}" if value >= 10**digits else f"{value:.{digits}g}"
