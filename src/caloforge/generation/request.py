"""A request: everything that decides which showers are generated, found out once."""

from __future__ import annotations

import logging
import os
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, Self

import torch
from numpy.typing import ArrayLike

from caloforge.checkpoint.before import weights_for
from caloforge.checkpoint.checkpoint import Checkpoint
from caloforge.checkpoint.introduced import introduces, with_detector
from caloforge.checkpoint.pretrained import FOUNDATION, default_model, default_models, pretrained_names
from caloforge.checkpoint.untrained import GFLASH
from caloforge.data.conditions import Conditions
from caloforge.data.fingerprint import conditions_digest
from caloforge.data.quantities import Quantity, whole_number
from caloforge.data.showers import Showers
from caloforge.detector.detector import Detector
from caloforge.detector.mesh import Mesh
from caloforge.errors import CheckpointError, ConditionError, DataError, DetectorError
from caloforge.generation.conditions import incident_conditions
from caloforge.generation.given import GivenShowers
from caloforge.generation.trained import check_range, trained_mesh, trained_name
from caloforge.models.base import GeneratorModel
from caloforge.runtime.provenance import code_version
from caloforge.runtime.shards import Shard
from caloforge.runtime.streams import checked_count, checked_seed

__all__ = ["CODE", "GenerationRequest", "Request", "code_versions", "resolve_checkpoint"]

log = logging.getLogger(__name__)

EXECUTION = ("device", "precision", "kernels")
"""What of a request the machine may decide."""
CODE = "code"
"""What of a request says with which versions; finished showers of others are finished nevertheless."""


def resolve_checkpoint(
    checkpoint: Checkpoint | str | os.PathLike[str] | None,
    detector: str | None = None,
    settings: Mapping[str, Any] | None = None,
    particle: str | None = None,
) -> Checkpoint:
    """The checkpoint, or the one for ``detector``, a name or file, with changed settings.

    That is the trained model that comes with caloforge for the detector, or else, also for a particle that
    this one does not know, that for all detectors, or else GFlash, of which a warning tells. A model for many
    detectors takes in one that it was not trained on, by its description.

    Raises:
        ConditionError: GFlash would have to be used, and is not for ``particle``.
        CheckpointError: neither is given, or the checkpoint is unusable.
        DetectorError: there is no such detector, or no trained model, and GFlash cannot be used for it.
        RecipeError: there is no such setting, or its value is illegal.
    """
    if checkpoint is None:
        if detector is None:
            raise CheckpointError(
                "say which model: the folder of a checkpoint, a name (caloforge models lists them), or a "
                f"detector: --detector {', '.join(default_models())} (a trained model), or any other name or "
                "file (the model for all detectors, or a parametrisation)"
            )
        checkpoint = _untold(detector, particle)
    checkpoint = Checkpoint.load(checkpoint)
    if detector is not None:
        if introduces(checkpoint):
            checkpoint = _introduced(checkpoint, detector)
        elif (name := Detector.name_of(detector)) in checkpoint.detectors:
            checkpoint = weights_for(checkpoint, name)
    return checkpoint.with_settings(settings or {})


def _untold(detector: str, particle: str | None) -> Checkpoint:
    """The model for a detector and particle where none is named: its own, that for all, or GFlash."""
    reasons: list[str] = []
    for name in (default_model(detector), FOUNDATION):
        if name not in pretrained_names():
            continue
        try:
            found = Checkpoint.load(name)
            if particle is not None:
                trained_name(found, "particle", particle)
            found = _introduced(found, detector)
        except (CheckpointError, ConditionError, DetectorError) as error:
            reasons.append(f"{name} cannot be used: {error}")
        else:
            for reason in reasons:
                log.warning("%s; these showers are those of %s", reason, name)
            return found
    found = Checkpoint.load(f"{GFLASH}{detector}")
    trained_name(found, "particle", particle)
    for reason in reasons:
        log.warning("%s", reason)
    log.warning(
        "no trained model for %s comes with caloforge: these showers are GFlash's, a parametrisation "
        "from the detector's description alone, which was fitted to no showers and agrees with "
        "Geant4 in means at best (docs/explanation/parametrised.md). Train a model for better ones: "
        "caloforge simulate %s -n 10000 -o showers.h5, caloforge train RECIPE showers.h5 -o model, "
        "caloforge generate model",
        detector if particle is None else f"{particle} in {detector}",
        detector,
    )
    return found


def _introduced(checkpoint: Checkpoint, detector: str) -> Checkpoint:
    """The checkpoint with a detector that it was not trained on, given by name or file; this is told."""
    name = Detector.name_of(detector)
    known, named = name in checkpoint.detectors, detector == name
    if named and not (known or name in Detector.names() or name.endswith(".toml")):
        return checkpoint  # a name of nothing; what it knows is said later
    checkpoint = weights_for(checkpoint, name)
    if named and known:
        return checkpoint
    made = with_detector(checkpoint, Detector.load(detector))
    if made is not checkpoint:
        log.warning(
            "%s was trained on no showers in %s: it knows this detector by its description alone; %s. A few "
            "hundred showers make it sure: caloforge simulate %s -n 500 -o showers.h5, caloforge adapt %s "
            "--data showers.h5 -o model, caloforge generate model (docs/how-to/foundation.md)",
            checkpoint.name,
            name,
            made.provenance["introduced"][name]["sure"],
            detector,
            checkpoint.home or checkpoint.name,
        )
    return made


class Request(ABC):
    """What is to be generated, and whether something that was generated is that."""

    @property
    @abstractmethod
    def description(self) -> dict[str, Any]:
        """The same, JSON-able and short: where it is equal, so is what is made."""

    def matches(self, recorded: Mapping[str, Any]) -> bool:
        """True where finished showers, with this request in their provenance, are those of this one.

        Files of versions that did not record precision and kernels are told by the rest.
        """
        told = {key: value for key, value in recorded.items() if key != CODE}
        own = {key: value for key, value in self.description.items() if key != CODE}
        return told == {key: v for key, v in own.items() if key in told or key not in EXECUTION}

    def require_execution(self, recorded: Mapping[str, Any], where: os.PathLike[str]) -> None:
        """DataError where the showers in ``where`` were made in a way that would not be chosen now."""
        now = self.description
        changed = [key for key in EXECUTION if recorded.get(key, now[key]) != now[key]]
        if changed:
            was, is_now = (", ".join(f"{key} {of[key]}" for key in changed) for of in (recorded, now))
            options = " ".join(f"--{key} {recorded[key]}" for key in changed)
            words = ", ".join(f"{key}={recorded[key]!r}" for key in changed)
            raise DataError(
                f"{where} was made with {was} and would now be made with {is_now}; ask for the same with "
                f"{options} ({words}), or start anew with overwrite=True (--overwrite)"
            )


def code_versions() -> str:
    """The versions that decide the last bits, for `Request.description`."""
    return f"caloforge {code_version().replace('+changes', '')}, torch {torch.__version__}"


@dataclass(frozen=True, eq=False)
class GenerationRequest(Request):
    """N showers of one model.

    Attributes:
        checkpoint: the model on disk, with the settings that are wanted.
        model: the model, which knows where and how it computes (``execution``).
        conditions: of the N showers, with their detector and particle.
        mesh: cells of the showers.
        seed: of the noise.
        first: number of the first shower.
        block_size: showers that the model gets at once, B.
        fixed_blocks: True where it always gets exactly B, each shower at the same place.
        given: coarse showers that the model refines, or None.
        shard: which part of a production they are.
    """

    checkpoint: Checkpoint
    model: GeneratorModel
    conditions: Conditions
    mesh: Mesh
    seed: int
    first: int
    block_size: int
    fixed_blocks: bool
    given: GivenShowers | None
    shard: Shard

    @classmethod
    def resolve(
        cls,
        checkpoint: Checkpoint | str | os.PathLike[str] | None,
        *,
        detector: str | None = None,
        particle: str | None = None,
        settings: Mapping[str, Any] | None = None,
        conditions: Conditions | None = None,
        like: Showers | str | os.PathLike[str] | None = None,
        energy: Quantity | ArrayLike | None = None,
        theta: Quantity | ArrayLike | None = None,
        phi: Quantity | ArrayLike | None = None,
        spectrum: str = "log-uniform",
        n: int | None = None,
        given: Showers | str | os.PathLike[str] | None = None,
        copies: int = 1,
        seed: int = 0,
        first: int = 0,
        shard: Shard | str | None = None,
        device: str = "auto",
        precision: str = "auto",
        kernels: str = "auto",
        batch_size: int | Literal["auto"] = "auto",
        fixed_blocks: bool = True,
        allow_extrapolation: bool = False,
    ) -> Self:
        """The request in the words of `generate`.

        Raises as `generate` does.
        """
        seed, first = checked_seed(seed), whole_number("first", first, 0)
        n = None if n is None else whole_number("n", n)
        batch_size = "auto" if batch_size == "auto" else whole_number("batch_size", batch_size)
        copies = whole_number("copies", copies)
        shard = Shard.parse(shard)
        low, high = (0, 1) if n is None else shard.span(n)
        checked_count(high - low, first + low)
        checkpoint = resolve_checkpoint(checkpoint, detector, settings, particle)
        checkpoint.require_makes()
        detector = None if detector is None else Detector.name_of(detector)
        coarse = None if given is None else GivenShowers.open(given, copies)
        if copies > 1 and coarse is None:
            raise ConditionError(f"copies goes with given showers, got copies={copies} and none")
        if coarse is not None:
            if not shard.is_whole:
                raise ConditionError(
                    "given showers are refined as a whole; give a part of them, and no shard"
                )
            if conditions is not None:
                raise ConditionError("given showers have their own conditions; leave conditions out")
            conditions = coarse.conditions
        conditions, first = incident_conditions(
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
            shard=shard,
        )
        if not allow_extrapolation:
            check_range(conditions, checkpoint)
        mesh = trained_mesh(checkpoint, conditions)
        checkpoint = weights_for(checkpoint, str(conditions.detector[0]))
        model = checkpoint.model(device, precision, kernels)
        model.require_possible(conditions)
        if coarse is not None:
            coarse.require_fit(model, checkpoint)
        on_cpu = model.execution.device.type == "cpu"
        block_size = model.block_size if on_cpu else model.block_size_gpu
        if not fixed_blocks and batch_size != "auto":
            block_size = batch_size
        return cls(
            checkpoint=checkpoint,
            model=model,
            conditions=conditions,
            mesh=mesh,
            seed=seed,
            first=first,
            block_size=block_size,
            fixed_blocks=fixed_blocks,
            given=coarse,
            shard=shard,
        )

    def __len__(self) -> int:
        """N."""
        return len(self.conditions)

    @property
    def device(self) -> torch.device:
        """Where the model computes."""
        return self.model.execution.device

    @cached_property
    def description(self) -> dict[str, Any]:
        """The same, JSON-able and short: where it is equal, so are the showers."""
        return {
            "changed_settings": self.checkpoint.provenance.get("changed_settings"),
            "checkpoint": self.checkpoint.fingerprint,
            "conditions": conditions_digest(self.conditions),
            "n": len(self),
            "seed": self.seed,
            "first": self.first,
            "given": None if self.given is None else self.given.fingerprint,
            "device": self.device.type,
            "precision": self.model.execution.precision,
            "kernels": self.model.execution.kernels,
            "fixed_blocks": self.fixed_blocks,
            "block_size": self.block_size,
            CODE: code_versions(),
        }
