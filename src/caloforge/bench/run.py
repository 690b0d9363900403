"""`bench`: every configuration in a process of its own, one after the other, and Geant4 beside them.

The protocol is the CaloChallenge's (arXiv:2410.21611). Timed is what `generate` does for showers in memory:
noise, decoding with its thresholds, and the copy to the CPU; reading the checkpoint and writing are not.
"""

from __future__ import annotations

import dataclasses
import math
import os
import signal
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np

from caloforge.bench.results import BenchResult, BenchRow, Geant4Time
from caloforge.bench.setting import choose_conditions, describe_machine, time_geant4
from caloforge.checkpoint import Checkpoint
from caloforge.checkpoint.folder import WEIGHTS
from caloforge.data import Conditions, Showers
from caloforge.data.quantities import Quantity
from caloforge.detector.detector import Detector
from caloforge.errors import CaloforgeError, CheckpointError, ConditionError, DataError
from caloforge.generation.request import GenerationRequest
from caloforge.runtime.cores import checked_threads, usable_cores
from caloforge.runtime.devices import pick_device
from caloforge.runtime.execution import require_choices
from caloforge.runtime.files import output_file
from caloforge.runtime.locks import file_lock
from caloforge.runtime.processes import Child, ChildError
from caloforge.runtime.progress import Display
from caloforge.runtime.provenance import provenance
from caloforge.runtime.signals import stoppable
from caloforge.runtime.streams import checked_count, checked_seed

__all__ = ["bench"]

POOL = 20
BUSY_LOAD = 0.3
BUSY_RATIO = 1.25
SETTINGS = ("seed", "repetitions", "precision", "kernels")


def bench(
    checkpoint: str | os.PathLike[str],
    *,
    batch_sizes: Sequence[int] = (1, 100, 10_000),
    threads: Sequence[int | None] = (1, None),
    devices: Sequence[str] | None = None,
    repetitions: int = 10,
    budget_s: float = 60.0,
    geant4: int = 20,
    like: Showers | str | os.PathLike[str] | None = None,
    energy: Quantity | None = None,
    detector: str | os.PathLike[str] | Detector | None = None,
    particle: str | None = None,
    settings: Mapping[str, Any] | None = None,
    precision: str = "auto",
    kernels: str = "auto",
    allow_extrapolation: bool = False,
    seed: int = 0,
    out: str | os.PathLike[str] | None = None,
    resume: bool = False,
    overwrite: bool = False,
    progress: bool = True,
) -> BenchResult:
    """Time a checkpoint on this machine.

    Args:
        checkpoint: its folder or name, or "gflash:DETECTOR".
        batch_sizes: showers given to the model at once.
        threads: CPU threads; None for all cores. A GPU is timed with the most.
        devices: by default the CPU and, where there is one, the GPU.
        repetitions: batches timed after the warm-up.
        budget_s: seconds for the repetitions of a configuration; where they would take longer there are
            fewer, and none where a single one would. The warm-up takes about one more repetition.
        geant4: showers to simulate in the checkpoint's detector, in one process; 0 for none.
        like: showers whose incident conditions to use, or
        energy: incident energies, ``"10GeV"``, ``"1-50GeV"`` or numbers in MeV; by default the range of the
            training showers, log-uniform.
        detector: the one of several that the checkpoint knows, or what Geant4 simulates where it names none.
        particle: the one of several that the checkpoint knows.
        settings: other values of the model's settings by dotted key, as for `generate`.
        precision: of the networks, as for `generate`.
        kernels: on the CPU, likewise.
        allow_extrapolation: allow energies outside the trained range.
        seed: of the noise and of the directions.
        out: JSON file, written anew after every configuration.
        resume: go on with that file; what it holds is not measured again.
        overwrite: replace it.
        progress: say what is being measured, on a terminal.

    Raises:
        CheckpointError: the checkpoint is unusable, or the settings do not fit its weights.
        RecipeError: there is no such setting.
        CaloforgeError: a device is not there, or a process failed.
        ConditionError: an option is senseless, or energies lie outside the trained range.
        DataError: the file exists, is of another benchmark, or cannot be written.
        KeyboardInterrupt: Ctrl-C; what is measured is in the file, or without one in the message.
    """
    target, seed = None if out is None else output_file(out), checked_seed(seed)
    if min([repetitions, *batch_sizes]) < 1 or not 0 < budget_s < math.inf:
        raise ConditionError("batch sizes and repetitions must be at least 1, and the budget positive")
    if geant4 < 0 or not (batch_sizes and threads):
        raise ConditionError("give at least one batch size and number of threads, and no negative geant4")
    for count in (geant4 or 1, *batch_sizes):
        checked_count(count)
    for number in threads:
        checked_threads(1 if number is None else number)
    with nullcontext() if target is None else file_lock(target):
        if target is not None and target.exists() and not (resume or overwrite):
            raise DataError(f"{target} exists; go on with it (--resume) or replace it (--overwrite)")
        loaded = Checkpoint.load(checkpoint).with_settings(settings or {})
        loaded.require_makes()
        require_choices(precision, kernels)
        if isinstance(detector, str | os.PathLike) and detector not in loaded.detectors:
            detector = Detector.load(detector)
        known = detector if isinstance(detector, str) and detector in loaded.detectors else None
        pool = choose_conditions(loaded, geant4 or POOL, like, energy, seed, known, particle)
        request = GenerationRequest.resolve(
            loaded,
            conditions=pool,
            seed=seed,
            device="cpu",
            precision=precision,
            kernels="plain",  # nothing is made with it
            allow_extrapolation=allow_extrapolation,
        )
        keys = _configurations(devices, threads, batch_sizes)
        asked = {"repetitions": repetitions, "precision": precision, "kernels": kernels}
        source = str(loaded.path or checkpoint)
        result = _empty(request, source, keys, asked)
        if resume and target is not None and target.exists():
            result = _resumed(result, BenchResult.read(target), target)
        wanted = {key: _row(key, remark="not measured yet") for key in keys}
        rows = wanted | {row.key: row for row in result.rows if row.repetitions}

        def keep(geant4_time: Geant4Time) -> BenchResult:
            """The result so far, written."""
            finished = [_with_speed_up(row, geant4_time) for row in rows.values()]
            warnings = _warnings(result.machine, finished)
            now = result.replace(geant4=geant4_time, rows=finished, warnings=warnings)
            if target is not None:
                now.write(target)
            return now

        job = {
            "checkpoint": source,
            "settings": dict(settings or {}),
            "conditions": _plain(pool),
            "seed": seed,
            "precision": precision,
            "kernels": kernels,
            "repetitions": repetitions,
            "budget_s": budget_s,
        }

        def kept() -> str:
            done = [row for row in rows.values() if row.repetitions]
            told = f"{len(done)} of {len(rows)} configurations were measured"
            if target:
                return f"{told} and kept in {target}; go on with resume=True (--resume)"
            return "\n".join([told, *(f"{_words(row.key)}: {row.ms:.4g} ms per shower" for row in done)])

        with Display(enabled=progress, transient=True) as show, stoppable(kept):
            time = result.geant4
            if geant4 and not time.showers:
                show("benchmark", 0, len(wanted), f"Geant4, {geant4} showers")
                time = time_geant4(loaded, pool, detector, seed)
            current = keep(time)
            for i, key in enumerate(wanted):
                if rows[key].repetitions:
                    continue
                show("benchmark", i, len(wanted), _words(key))
                rows[key] = _measure(key, job)
                current = keep(time)
        return current


def _configurations(
    devices: Sequence[str] | None, threads: Sequence[int | None], batch_sizes: Sequence[int]
) -> list[tuple[str, int, int]]:
    """Device, threads and batch size of each, without repetition."""
    import torch

    found = devices or ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    for device in found:
        pick_device(device)
    counts = list(dict.fromkeys(n or usable_cores() for n in threads))
    return [
        (device, n, size)
        for device in dict.fromkeys(found)
        for n in (counts if device == "cpu" else [max(counts)])
        for size in dict.fromkeys(batch_sizes)
    ]


def _plain(pool: Conditions) -> dict[str, Any]:
    """The arguments that `Conditions` is made of, JSON-able."""
    columns = {f.name: getattr(pool, f.name) for f in dataclasses.fields(pool)}
    return {name: None if column is None else column.tolist() for name, column in columns.items()}


def _empty(
    request: GenerationRequest, source: str, keys: Sequence[tuple[str, int, int]], asked: dict[str, Any]
) -> BenchResult:
    """What is known before anything is measured."""
    checkpoint, model, pool = request.checkpoint, request.model, request.conditions
    mib = 0.0 if checkpoint.path is None else (checkpoint.path / WEIGHTS).stat().st_size / 2**20
    return BenchResult(
        checkpoint={
            "path": source,
            "fingerprint": request.description["checkpoint"],
            "model": checkpoint.model_name,
            "mesh": str(request.mesh),
            "changed_settings": checkpoint.provenance.get("changed_settings", {}),
        },
        parameters=model.n_parameters,
        model_mib=mib,
        blocks={"cpu": model.block_size, "gpu": model.block_size_gpu},
        conditions={
            **pool.ranges(),
            "mean_energy": float(pool.energy.mean()),
            "digest": request.description["conditions"],
        },
        machine=describe_machine([device for device, *_ in keys]),
        geant4=Geant4Time(),
        rows=[],
        provenance=provenance("bench", seed=request.seed, **asked),
    )


def _resumed(new: BenchResult, old: BenchResult, path: Path) -> BenchResult:
    """``new`` with what ``old`` holds; DataError where that is of something else."""
    was = old.provenance["settings"]  # older versions had "auto" only, and did not record it
    for what, a, b in (
        ("checkpoint", old.checkpoint["fingerprint"], new.checkpoint["fingerprint"]),
        ("conditions", old.conditions["digest"], new.conditions["digest"]),
        *((name, old.machine[name], new.machine[name]) for name in ("processor", "cores", "torch")),
        *((name, was.get(name, "auto"), new.provenance["settings"][name]) for name in SETTINGS),
    ):
        if a != b:
            raise DataError(
                f"{path}: cannot go on, its {what} was {a} and now is {b}; use the same, or start anew with "
                "overwrite=True (--overwrite)"
            )
    return new.replace(geant4=old.geant4, rows=old.rows)


def _words(key: tuple[str, int, int]) -> str:
    device, threads, size = key
    return f"{device}, threads: {threads}, batch {size:,}"


def _row(key: tuple[str, int, int], **measured: Any) -> BenchRow:
    device, threads, size = key
    return BenchRow(device=device, threads=threads, batch_size=size, **measured)


def _measure(key: tuple[str, int, int], job: dict[str, Any]) -> BenchRow:
    """One configuration in a process of its own."""
    device, threads, size = key
    job = job | {"device": device, "threads": threads, "batch_size": size}
    if device != "cpu":
        job["kernels"] = "auto"
    try:
        with Child("caloforge.bench.worker", threads=threads) as worker:
            reply = worker.ask(job)
    except ChildError as error:
        if error.status == -signal.SIGKILL:
            remark = "not measured: the system ended the process, as it does without memory"
            return _row(key, remark=remark)
        raise CaloforgeError(f"{_words(key)} failed: {error.details}") from None
    if "refusal" in reply:
        raise CheckpointError(reply["refusal"])
    times = np.array(reply.pop("times"))
    processor = reply.pop("processor_times", [])
    if not len(times):
        return _row(key, **reply)
    return _row(
        key,
        repetitions=len(times),
        ms=float(times.mean()),
        ms_std=float(times.std(ddof=1)) if len(times) > 1 else math.nan,
        ms_min=float(times.min()),
        processor_ms=float(np.mean(processor)),
        times=tuple(times.tolist()),
        **reply,
    )


def _with_speed_up(row: BenchRow, geant4: Geant4Time) -> BenchRow:
    alone = row.device == "cpu" and row.threads == 1  # other programs then slow down neither of the two times
    return row.replace(speed_up=geant4.ms / (row.processor_ms if alone else row.ms))


def _warnings(machine: dict[str, Any], rows: Sequence[BenchRow]) -> list[str]:
    found = []
    if machine["load"] > BUSY_LOAD * machine["cores"]:
        found.append(
            f"The load average was {machine['load']:g} on {machine['cores']} cores before the start: other "
            "programs ran, and times may come out too long."
        )
    single = [row for row in rows if row.device == "cpu" and row.threads == 1 and row.repetitions]
    slow = [row for row in single if row.ms > BUSY_RATIO * row.processor_ms]
    if slow:
        worst = max(row.ms / row.processor_ms for row in slow)
        found.append(
            f"With one thread, {len(slow)} of {len(single)} configurations took up to {worst:.1f} times the "
            "processor time they used: other programs had the processor meanwhile."
        )
    return found
