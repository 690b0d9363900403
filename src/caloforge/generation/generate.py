"""Generating showers with a trained model."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from numpy.typing import ArrayLike

from caloforge.checkpoint.checkpoint import Checkpoint
from caloforge.data.conditions import Conditions
from caloforge.data.quantities import Quantity, whole_number
from caloforge.data.showers import Showers
from caloforge.generation.production import ShowerProduction
from caloforge.generation.request import GenerationRequest
from caloforge.generation.workers import most_workers
from caloforge.runtime.cores import checked_threads
from caloforge.runtime.devices import cpu_threads
from caloforge.runtime.shards import Shard
from caloforge.runtime.signals import catch_signals

__all__ = ["generate"]


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
    shard: Shard | str | None = None,
    batch_size: int | Literal["auto"] = "auto",
    device: str = "auto",
    precision: str = "auto",
    kernels: str = "auto",
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
            that comes with caloforge for the detector, or GFlash, a parametrisation, where there is none.
        detector, particle: for which showers are made, where the model was trained on several; without a
            checkpoint, the detector may be any name or file.
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
        shard: make this part of the n showers alone, ``"17/1000"``; the first of 1000 is ``"1/1000"``.
        batch_size: showers held in memory and written at once.
        device: "auto", "cpu", "cuda", "cuda:1" or "mps".
        precision: of networks, "float32" or "bfloat16"; "auto" as the model's settings say, which may leave
            it to the device.
        kernels: "compiled", "fused" by torch's compiler, or "plain" torch; "auto" compiled ones where they
            can be had.
        threads: CPU cores to use at most, by default all usable ones; each by a process of one thread, where
            there is enough to do. The showers are the same. On a GPU: threads of torch.
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
        DetectorError: there is no such detector, or GFlash cannot be used for it.
        RecipeError: there is no such setting.
        CheckpointError: the checkpoint is unusable, the settings do not fit the weights, the model does not
            refine showers on the mesh of those given, or the model gave NaN, infinity or a negative energy.
        DataError: the file exists, or cannot be written, or what is unfinished is of another request, or was
            made in another precision or with other kernels than this machine would choose.
        CaloforgeError: the device is missing, or cannot do what is asked for.
        ChildError: a process that made showers was killed; what is finished is kept for ``resume``.
        KeyboardInterrupt: Ctrl-C; what is finished is kept for ``resume``.
    """
    threads = None if threads is None else checked_threads(whole_number("threads", threads))
    request = GenerationRequest.resolve(
        checkpoint,
        detector=detector,
        particle=particle,
        settings=settings,
        conditions=conditions,
        like=like,
        energy=energy,
        theta=theta,
        phi=phi,
        spectrum=spectrum,
        given=given,
        copies=copies,
        n=n,
        seed=seed,
        first=first,
        shard=shard,
        device=device,
        precision=precision,
        kernels=kernels,
        batch_size=batch_size,
        fixed_blocks=fixed_blocks,
        allow_extrapolation=allow_extrapolation,
    )
    on_cpu = request.device.type == "cpu"
    with cpu_threads(1 if on_cpu else threads), catch_signals() as interrupt, torch.inference_mode():
        most = most_workers(request, threads)
        with ShowerProduction(request, batch_size, interrupt, progress, most) as production:
            if out is None:
                return production.in_memory()
            return production.to_file(Path(out), resume=resume, overwrite=overwrite)
