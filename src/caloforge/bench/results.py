"""What a benchmark returns: plain dataclasses, their file and their table."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from caloforge.errors import DataError
from caloforge.evaluation.results.serial import from_plain, to_plain
from caloforge.runtime.files import whole_file

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["SCHEMA", "BenchResult", "BenchRow", "Geant4Time", "read_bench", "write_bench"]

SCHEMA = 1
"""Version of the layout of the file; raised where a key is removed or changes its meaning."""


@dataclass(frozen=True)
class Geant4Time:
    """Processor time of Geant4 in one process, at the energies of the generated showers.

    Attributes:
        showers: how many were simulated; 0 if none.
        ms, ms_error: mean per shower, and its standard error from the spread of time per energy.
        mean_energy_mev: mean incident energy of these showers.
        physics: physics list and data.
        remark: why there is no number.
    """

    showers: int = 0
    ms: float = math.nan
    ms_error: float = math.nan
    mean_energy_mev: float = math.nan
    physics: str = ""
    remark: str = ""


@dataclass(frozen=True)
class BenchRow:
    """One configuration, measured in a process of its own.

    Attributes:
        device: ``cpu``, ``cuda``, …
        threads: CPU threads of torch.
        batch_size: showers given to the model at once.
        repetitions: batches that were timed.
        ms, ms_std, ms_min: elapsed time per shower over the repetitions: mean, standard deviation (NaN for
            one) and smallest; NaN where nothing was measured.
        processor_ms: mean processor time per shower, summed over the threads. With one CPU thread it is below
            ``ms`` only where other programs took the processor.
        peak_memory_mib: of the whole process on a CPU, of the tensors on a GPU.
        memory_before_mib: the same when the model was loaded and nothing was generated.
        speed_up: Geant4's processor time over ``processor_ms`` with one CPU thread, else over ``ms``.
        times: ms per shower of each repetition.
        remark: why something was not measured.
    """

    device: str
    threads: int
    batch_size: int
    repetitions: int = 0
    ms: float = math.nan
    ms_std: float = math.nan
    ms_min: float = math.nan
    processor_ms: float = math.nan
    peak_memory_mib: float = math.nan
    memory_before_mib: float = math.nan
    speed_up: float = math.nan
    times: tuple[float, ...] = ()
    remark: str = ""

    @property
    def key(self) -> tuple[str, int, int]:
        """Device, threads and batch size, which name the configuration."""
        return self.device, self.threads, self.batch_size


@dataclass(frozen=True)
class BenchResult:
    """Times of one checkpoint on one machine.

    Attributes:
        checkpoint: ``path``, ``fingerprint``, ``model``, ``mesh``, ``changed_settings``.
        parameters: numbers in the model that were trained.
        model_mib: size of the file with its weights.
        blocks: showers that `generate` gives the model at once by default, on a ``cpu`` and on a ``gpu``.
        conditions: ``energy`` [MeV], ``theta``, ``phi`` ranges, mean energy, and a digest of all of them.
        machine: processor, cores, memory, GPU, versions, and the load average at the start.
        geant4: what the showers cost in Geant4.
        rows: one for each configuration.
        warnings: plain sentences.
        provenance: of the benchmark.
    """

    checkpoint: dict[str, Any]
    parameters: int
    model_mib: float
    blocks: dict[str, int]
    conditions: dict[str, Any]
    machine: dict[str, Any]
    geant4: Geant4Time
    rows: list[BenchRow]
    warnings: list[str] = field(default_factory=list)
    provenance: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """As JSON-able values."""
        return {"schema": SCHEMA, **to_plain(self)}

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Self:
        """The result that `to_dict` made these values of; DataError where they are something else."""
        if plain.get("schema") != SCHEMA:
            raise DataError(f"a benchmark of schema {plain.get('schema')!r}; {SCHEMA} is expected")
        try:
            return from_plain(cls, dict(plain))
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"not a benchmark: {error}") from error

    def summary(self) -> Table:
        """One row a configuration."""
        from rich.box import SIMPLE_HEAD
        from rich.markup import escape
        from rich.table import Table

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


def write_bench(result: BenchResult, path: str | os.PathLike[str]) -> None:
    """Write a result as JSON, whole or not at all; DataError where that fails."""
    text = json.dumps(result.to_dict(), indent=1, ensure_ascii=False, allow_nan=False)
    try:
        with whole_file(Path(path)) as file:
            file.write((text + "\n").encode())
    except OSError as error:
        raise DataError(f"cannot write {path}: {error}") from error


def read_bench(path: str | os.PathLike[str]) -> BenchResult:
    """The result in a file; DataError where it is missing, damaged or something else."""
    try:
        plain = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read {path}: {error}") from error
    if not isinstance(plain, dict):
        raise DataError(f"{path}: not a benchmark")
    return BenchResult.from_dict(plain)
