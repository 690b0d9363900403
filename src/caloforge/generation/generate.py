"""Generating showers: noise and conditions in blocks of a fixed size through the model, and on to disk.

A matrix product may round differently for another number of rows. So that a shower is the same to the last
bit whatever is generated with it, the model always gets exactly B showers at once, numbers kB … kB + B − 1,
and a shower always has the same place among them; places that were not asked for are computed and dropped.
Legend: ``B`` showers of a block, ``V`` voxels.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from caloforge.checkpoint.checkpoint import Checkpoint
from caloforge.data.conditions import Conditions
from caloforge.data.formats import open_showers
from caloforge.data.quantities import Quantity
from caloforge.data.showers import Showers
from caloforge.data.writer import ShowerWriter
from caloforge.errors import CheckpointError, ConditionError, DataError
from caloforge.generation.choice import chosen_checkpoint
from caloforge.generation.given import GivenShowers
from caloforge.generation.noise import draw_noise
from caloforge.generation.parts import PartStore
from caloforge.generation.request import asked_conditions, asked_mesh, check_range, conditions_digest
from caloforge.models.base import ConditionTensors, GeneratorModel
from caloforge.models.flow.autoregressive.kernel import kernel_name
from caloforge.runtime.devices import cpu_threads, device_name, pick_device
from caloforge.runtime.memory import peak_memory_mib
from caloforge.runtime.progress import Display
from caloforge.runtime.provenance import provenance
from caloforge.runtime.signals import Interrupt, catch_signals, raise_interrupt

__all__ = ["generate"]

BATCH_BYTES = 64 << 20
PART_SECONDS = 30.0

Energies = NDArray[np.float32]


def generate(
    checkpoint: Checkpoint | str | os.PathLike[str] | None = None,
    *,
    detector: str | None = None,
    particle: str | None = None,
    out: str | os.PathLike[str] | None = None,
    conditions: Conditions | None = None,
    like: Showers | str | os.PathLike[str] | None = None,
    energy: Quantity | ArrayLike | None = None,
    theta: Quantity | ArrayLike | None = None,
    phi: Quantity | ArrayLike | None = None,
    spectrum: str = "log-uniform",
    given: Showers | str | os.PathLike[str] | None = None,
    copies: int = 1,
    settings: Mapping[str, Any] | None = None,
    n: int | None = None,
    seed: int = 0,
    first: int = 0,
    batch_size: int | Literal["auto"] = "auto",
    device: str = "auto",
    threads: int | None = None,
    fixed_blocks: bool = True,
    allow_extrapolation: bool = False,
    overwrite: bool = False,
    resume: bool = False,
    progress: bool = True,
) -> Showers:
    """Generate showers with a trained model.

    A shower is a function of the checkpoint, the seed, its number and its conditions. On a CPU it is the same
    to the last bit for any ``batch_size``, ``first`` and ``n``, so that a production may be cut into pieces.

    Args:
        checkpoint: the model, its folder, or the name of one that comes with caloforge; without it, the one
            that comes with caloforge for the detector.
        detector, particle: for which showers are made, where the model was trained on several.
        out: file to write; without one, the showers stay in memory.
        conditions: conditions of the showers, or
        like: showers (or their file) whose conditions to use, or
        energy: incident energies, MeV, with ``theta`` and ``phi``, rad, which may be left out where the model
            was trained for one direction; or text, ``"10GeV"``, ``"1-50GeV"`` or ``"1GeV,10GeV"`` in turn,
            with which angles are ranges, ``"60-90deg"``, and those left out are as in the training; or
        given: showers (or their file) on the coarse mesh of a model that refines such showers, with their
            conditions.
        spectrum: "log-uniform" or "uniform": how energies are drawn from a range.
        copies: how often the given showers are gone through, with other noise each time.
        settings: other values of settings that leave the weights as they are, by dotted key:
            ``{"sampler.steps": 4}``.
        n: how many showers; one energy is repeated so often, of conditions the first n are taken.
        seed: seed of the noise.
        first: number of the first shower.
        batch_size: showers held in memory and written at once.
        device: "auto", "cpu", "cuda", "cuda:1" or "mps".
        threads: CPU threads; as torch has them set where not given.
        fixed_blocks: False gives the model ``batch_size`` showers at once, for timing; the last bits of a
            shower may then depend on it.
        allow_extrapolation: allow conditions outside the range of the training showers.
        overwrite: replace an existing file or an unfinished generation.
        resume: go on with a generation that was stopped; a finished one is returned as it is.
        progress: show how far it is, on a terminal.

    Returns:
        The showers; their provenance has the speed under "performance".

    Raises:
        ConditionError: conditions are missing or outside the trained range.
        RecipeError: there is no such setting.
        CheckpointError: the checkpoint is unusable, none comes with caloforge for the detector, the
            settings do not fit the weights, the model does not refine showers on the mesh of those given, or
            the model gave NaN, infinity or a negative energy.
        DataError: the file exists, or cannot be written.
        KeyboardInterrupt: Ctrl-C; what is finished is kept for ``resume``.
    """
    checkpoint = chosen_checkpoint(checkpoint, detector, settings)
    if copies < 1 or (copies > 1 and given is None):
        raise ConditionError(f"copies must be at least 1 and goes with given showers, got {copies}")
    source: GivenShowers | None = None
    if given is not None:
        if conditions is not None:
            raise ConditionError("given showers have their own conditions; leave conditions out")
        source = GivenShowers.open(given, copies)
        conditions = source.conditions
    asked = asked_conditions(
        checkpoint,
        conditions=conditions,
        like=like,
        energy=energy,
        theta=theta,
        phi=phi,
        spectrum=spectrum,
        detector=detector,
        particle=particle,
        n=n,
        seed=seed,
        first=first,
    )
    if not allow_extrapolation:
        check_range(asked, checkpoint)
    if first < 0 or (batch_size != "auto" and batch_size < 1) or (threads is not None and threads < 1):
        raise ConditionError("first must be at least 0, batch_size and threads at least 1")
    where = pick_device(device)
    run = _Run(checkpoint, asked, seed, first, batch_size, where, fixed_blocks, source)
    with cpu_threads(threads), catch_signals() as interrupt, torch.inference_mode():
        if out is None:
            energies = np.concatenate([part for _, part in run.batches(0, interrupt, progress)])
            run.stop_if_asked(interrupt, len(energies), None)
            return Showers(energies, asked, run.mesh, run.provenance())
        return run.to_file(Path(out), interrupt, overwrite=overwrite, resume=resume, progress=progress)


class _Run:
    """One call of `generate`."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        conditions: Conditions,
        seed: int,
        first: int,
        batch_size: int | Literal["auto"],
        device: torch.device,
        fixed_blocks: bool,
        given: GivenShowers | None,
    ) -> None:
        self.checkpoint, self.conditions, self.seed, self.first = checkpoint, conditions, seed, first
        self.device, self.fixed_blocks = device, fixed_blocks
        self.mesh = asked_mesh(checkpoint, conditions)
        self.model: GeneratorModel = checkpoint.model(device)
        self.given = given
        if given is not None:
            given.require_fit(self.model, checkpoint)
        self.shapes = self.model.noise_shapes()
        self.n_voxels = self.mesh.n_voxels
        block = self.model.block_size if device.type == "cpu" else self.model.block_size_gpu
        if fixed_blocks:
            self.block = block
            held = max(1, BATCH_BYTES // (4 * self.n_voxels)) if batch_size == "auto" else batch_size
        else:
            self.block = held = block if batch_size == "auto" else batch_size
        self.batch_size = held
        self.n_made, self.seconds = 0, 0.0

    def request(self) -> dict[str, Any]:
        """All that decides the showers."""
        return {
            "changed_settings": self.checkpoint.provenance.get("changed_settings"),
            "checkpoint": self.checkpoint.fingerprint,
            "conditions": conditions_digest(self.conditions),
            "n": len(self.conditions),
            "seed": self.seed,
            "first": self.first,
            "given": None if self.given is None else self.given.fingerprint,
            "device": self.device.type,
            "fixed_blocks": self.fixed_blocks,
            "block_size": self.block,
        }

    def batches(self, start: int, interrupt: Interrupt, progress: bool) -> Iterator[tuple[int, Energies]]:
        """Energies (n, V) of the showers from position ``start`` on, in batches; an interrupt ends it."""
        total, at = len(self.conditions), start
        held: list[Energies] = []
        began = time.monotonic()
        with Display("showers", enabled=progress) as show:
            show("generating", start, total)
            for low, high in self._spans(start):
                held.append(self._decode(low, high))
                show("generating", high, total)
                n_held = high - at
                late = time.monotonic() - began > PART_SECONDS
                if n_held >= self.batch_size or late or high == total or interrupt.signal:
                    yield at, np.concatenate(held) if len(held) > 1 else held[0]
                    held, at, began = [], high, time.monotonic()
                if interrupt.signal:
                    return

    def _spans(self, start: int) -> Iterator[tuple[int, int]]:
        """Positions (low, high) of what is asked for in each block, or in each batch without fixed blocks."""
        low, total = start, len(self.conditions)
        while low < total:
            filled = (self.first + low) % self.block if self.fixed_blocks else 0
            high = min(low + self.block - filled, total)
            yield low, high
            low = high

    def _decode(self, low: int, high: int) -> Energies:
        """Energies (high − low, V) of the showers at positions low … high − 1."""
        began = time.perf_counter()
        before = (self.first + low) % self.block if self.fixed_blocks else 0
        size = self.block if self.fixed_blocks else high - low
        numbers = torch.arange(size, dtype=torch.int64) + (self.first + low - before)
        # places that were not asked for get the conditions of the nearest shower that was
        places = np.clip(np.arange(size) - before, 0, high - low - 1) + low
        conditions = ConditionTensors.of(self.conditions[places], self.model.detectors, self.device)
        if self.given is not None:
            conditions.given = torch.from_numpy(self.given.take(places)).to(self.device)
        noise = draw_noise(self.shapes, self.seed, numbers, self.device)
        made = self.model.decode(noise, conditions)
        if made.shape != (size, *self.mesh.shape):
            raise CheckpointError(
                f"{self.checkpoint.model_name} gave showers of shape {tuple(made.shape)}; "
                f"({size}, *{self.mesh.shape}) was expected"
            )
        part = made[before : before + high - low].to("cpu", torch.float32).numpy()
        energies = np.ascontiguousarray(part).reshape(high - low, self.n_voxels)
        self.seconds += time.perf_counter() - began
        self.n_made += high - low
        self._check(energies, low)
        return energies

    def _check(self, energies: Energies, low: int) -> None:
        if energies.min() >= 0 and np.isfinite(energies.max()):
            return
        shower, voxel = np.argwhere(~(np.isfinite(energies) & (energies >= 0)))[0]
        position = low + int(shower)
        given = self.conditions[[position]]
        raise CheckpointError(
            f"the model gave {energies[shower, voxel]} MeV in voxel {voxel} of shower "
            f"{self.first + position} (seed {self.seed}, {given.energy[0]:.6g} MeV, "
            f"θ = {given.theta[0]:.4g}, φ = {given.phi[0]:.4g}); the checkpoint is not usable there"
        )

    def stop_if_asked(self, interrupt: Interrupt, n_done: int, folder: Path | None) -> None:
        """Raise what a signal asks for."""
        if interrupt.signal:
            kept = f" and kept in {folder}; go on with resume=True (--resume)" if folder else " and dropped"
            raise_interrupt(
                interrupt.signal, f"stopped: {n_done} of {len(self.conditions)} showers were made{kept}"
            )

    def to_file(
        self, out: Path, interrupt: Interrupt, *, overwrite: bool, resume: bool, progress: bool
    ) -> Showers:
        """Generate into parts and join them into ``out``."""
        store = PartStore(out.with_name(out.name + ".parts"), self.request(), self.n_voxels)
        if out.exists() and not overwrite:
            if resume and not store.folder.exists():
                finished = open_showers(out)
                if finished.provenance.get("request") == self.request():
                    return finished
            raise DataError(f"{out} exists; choose another name or allow overwriting (--overwrite)")
        done = store.open(resume=resume, overwrite=overwrite)
        for start, energies in self.batches(done, interrupt, progress):
            store.add(start, energies)
            done = start + len(energies)
        self.stop_if_asked(interrupt, done, store.folder)
        with ShowerWriter(out, self.mesh, provenance=self.provenance(), overwrite=overwrite) as writer:
            for start, stop in store.finished():
                writer.append(store.read(start, stop), self.conditions[start:stop])
        store.remove()
        return open_showers(out)

    def provenance(self) -> dict[str, Any]:
        """Who made the showers, with what, and how fast."""
        seconds = max(self.seconds, 1e-9)
        made_by = provenance("generate", seed=self.seed, first=self.first, batch_size=self.batch_size)
        return made_by | {
            "request": self.request(),
            "checkpoint": {
                "path": str(self.checkpoint.path or ""),
                "fingerprint": self.checkpoint.fingerprint,
                "model": self.checkpoint.model_name,
                "settings": self.checkpoint.settings,
                "provenance": self.checkpoint.provenance,
            },
            "performance": {
                "showers_per_second": self.n_made / seconds,
                "ms_per_shower": 1e3 * seconds / max(self.n_made, 1),
                "seconds": self.seconds,
                "n_showers": self.n_made,
                "batch_size": self.block,
                "threads": torch.get_num_threads(),
                "device": device_name(self.device),
                "kernels": kernel_name() if self.device.type == "cpu" else "plain",
                "peak_memory_mib": peak_memory_mib(self.device),
            },
        }
