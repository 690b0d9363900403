"""Checkpoints: a trained model, what it was trained on and how; on disk a folder that holds no code."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor

from caloforge.checkpoint.about import About
from caloforge.checkpoint.bounded import UNBUILT, no_larger_than
from caloforge.checkpoint.folder import ABOUT, BEFORE, holds_checkpoint, read_folder, write_folder
from caloforge.checkpoint.pretrained import pretrained_folder
from caloforge.checkpoint.untrained import GFLASH, gflash, gflash_range
from caloforge.detector.detector import Detector
from caloforge.detector.mesh import Mesh, mesh_from_dict
from caloforge.errors import CheckpointError, MeshError, RecipeError
from caloforge.models.base import GeneratorModel, NoiseModel
from caloforge.models.pixels.base import PixelModel
from caloforge.models.trainable import Trainable, load_trainable_class
from caloforge.registry import enumerated
from caloforge.runtime.provenance import provenance
from caloforge.settings import explain, with_overrides

__all__ = ["Checkpoint"]

SHOWERS, EVENTS = "showers", "events of a pixel detector"
MAKERS: dict[str, type[Any]] = {SHOWERS: GeneratorModel, EVENTS: PixelModel}


@dataclass
class Checkpoint:
    """A trained model and all that is needed to use it and to know where it came from.

    Attributes:
        model_name: "module:Class", as in a recipe.
        settings: the model's settings.
        mesh: cells of the showers it makes, or of those in its first detector.
        valid_range: `Conditions.ranges` of the training showers, MeV, rad and mm; and, under "usual",
            particle and angles that are taken where none are given. Of pixel events, ``rates`` by source.
        tensors: parameters and buffers.
        detectors: names that the model's detector index counts.
        meshes: cells of each detector, see `mesh_of`.
        valid_ranges: ``valid_range`` of each detector, see `range_of`.
        recipe: the recipe it was trained with.
        provenance: what made it, with the provenance of the training showers.
        seed: seed of the training.
        metrics: numbers from the training, such as the best validation loss of each part.
        path: the folder, where it is on disk.
    """

    model_name: str
    settings: dict[str, Any]
    mesh: Mesh
    valid_range: dict[str, Any]
    tensors: dict[str, Tensor] = field(repr=False)
    detectors: tuple[str, ...] = ()
    meshes: dict[str, Mesh] = field(default_factory=dict, repr=False)
    valid_ranges: dict[str, dict[str, Any]] = field(default_factory=dict, repr=False)
    recipe: dict[str, Any] = field(default_factory=dict, repr=False)
    provenance: dict[str, Any] = field(default_factory=dict, repr=False)
    seed: int = 0
    metrics: dict[str, Any] = field(default_factory=dict)
    path: Path | None = None

    @classmethod
    def from_model(
        cls, model: Trainable, model_name: str, valid_range: dict[str, Any], **about: Any
    ) -> Checkpoint:
        """A checkpoint of a model as it is now; ``about`` are further attributes."""
        tensors = {name: tensor.detach().cpu().clone() for name, tensor in model.state_dict().items()}
        settings = model.settings.model_dump(mode="json")
        about |= {"detectors": model.detectors, "meshes": dict(model.meshes)}
        return cls(model_name, settings, model.mesh, valid_range, tensors, **about)

    @classmethod
    def of_detector(cls, detector: Detector) -> Checkpoint:
        """GFlash, the parametrisation of showers in a detector, which needs neither showers nor training.

        Raises:
            DetectorError, MeshError: the parametrisation cannot be used for this detector.
        """
        model = gflash(detector)
        model.know((detector.name,), {detector.name: detector.mesh})
        made_by = provenance("parametrise", detector=detector.to_dict())
        return cls.from_model(
            model,
            "parametrised.gflash:GFlash",
            gflash_range(model),
            provenance={**made_by, "untrained": True},
        )

    @property
    def trained(self) -> bool:
        """False where it was made from a detector's description alone."""
        return not self.provenance.get("untrained", False)

    @property
    def home(self) -> Path | None:
        """The folder that a user knows, which that of an adapted model is for what it was before, too."""
        home = self.path
        while home is not None and home.name == BEFORE and holds_checkpoint(home.parent):
            home = home.parent
        return home

    @property
    def name(self) -> str:
        """What it is called: its folder, or the name of an untrained one."""
        if self.home is not None:
            return self.home.name
        return "the checkpoint" if self.trained else f"{GFLASH}{'+'.join(self.detectors)}"

    @property
    def fingerprint(self) -> str:
        """Sixteen hexadecimal digits that differ where weights, settings, mesh or class do."""
        state = hashlib.sha256()
        for text in (self.model_name, repr(sorted(self.settings.items())), self.mesh.fingerprint):
            state.update(text.encode())
        for name, mesh in sorted(self._other_meshes().items()):
            state.update(f"{name} {mesh.fingerprint}".encode())
        for name in sorted(self.tensors):
            tensor = self.tensors[name].contiguous()
            state.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            state.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
        return state.hexdigest()[:16]

    def model(
        self, device: torch.device | str = "cpu", precision: str = "auto", kernels: str = "auto"
    ) -> GeneratorModel:
        """The generator with its weights, see `network`; CheckpointError where it makes no showers."""
        self.require_makes(SHOWERS)
        model = self.network(device, precision, kernels)
        assert isinstance(model, GeneratorModel)
        return model

    def pixel_model(
        self, device: torch.device | str = "cpu", precision: str = "auto", kernels: str = "auto"
    ) -> PixelModel:
        """The model of pixel events with its weights, see `network`; CheckpointError where it makes none."""
        self.require_makes(EVENTS)
        model = self.network(device, precision, kernels)
        assert isinstance(model, PixelModel)
        return model

    def require_makes(self, what: str = SHOWERS) -> None:
        """CheckpointError unless it holds a model that makes showers, or `EVENTS`."""
        where = self.path or "checkpoint"
        try:
            held = load_trainable_class(self.model_name)
        except RecipeError as error:
            raise CheckpointError(f"{where}: its model cannot be built: {error}") from error
        if not issubclass(held, MAKERS[what]):
            use = "caloforge generate makes what it is for"
            if not issubclass(held, NoiseModel):
                use = "it helps to train others, caloforge train ... --teacher FOLDER"
            raise CheckpointError(f"{where} holds a {held.__name__}, which makes no {what}; {use}")

    def network(
        self, device: torch.device | str = "cpu", precision: str = "auto", kernels: str = "auto"
    ) -> Trainable:
        """What was trained with its weights, in eval mode; how it computes is decided here.

        Args:
            device, precision, kernels: see `Trainable.execute_on`.

        Raises:
            CheckpointError: the class or its settings are no longer what the weights were made for.
            CaloforgeError: there is no such device, or it cannot do what is asked for.
        """
        where = self.path or "checkpoint"
        try:
            with torch.random.fork_rng(devices=[]), no_larger_than(self.tensors):
                model = load_trainable_class(self.model_name)(self.mesh, self.settings)
        except UNBUILT as error:
            raise CheckpointError(f"{where}: its model cannot be built: {error}") from error
        wrong = _misfits(model.state_dict(), self.tensors)
        if wrong:
            raise CheckpointError(
                f"{where}: the weights do not fit {self.model_name}: {'; '.join(wrong[:5])}"
                f"{f' and {len(wrong) - 5} more' if len(wrong) > 5 else ''}; {self._why_not()}"
            )
        model.load_state_dict(self.tensors)
        try:
            model.know(self.detectors, self.meshes)
        except RecipeError as error:
            raise CheckpointError(f"{where}: {error}") from error
        model.progress.fill_(1.0)
        return model.eval().execute_on(device, precision, kernels)

    def _why_not(self) -> str:
        changed = self.provenance.get("changed_settings")
        if not changed:
            return "they were made with another version of the model"
        return (
            f"{', '.join(changed)} cannot be changed after training; train with the settings that are wanted"
        )

    def with_settings(self, changes: Mapping[str, Any]) -> Checkpoint:
        """The same weights with other settings, for those that leave the weights as they are.

        The provenance of what the model makes has them under "changed_settings".

        Args:
            changes: values by dotted key of the model's settings, ``{"sampler.steps": 4}``; None stands for
                the default.

        Raises:
            RecipeError: there is no such setting, or the value is illegal. Settings for which the weights do
                not fit are a CheckpointError of `model`.
        """
        if not changes:
            return self
        settings_class = load_trainable_class(self.model_name).Settings
        try:
            whole = settings_class.model_validate(self.settings).model_dump(mode="json")
            settings = settings_class.model_validate(with_overrides(whole, changes))
        except ValidationError as error:
            where = self.path.name if self.path else "checkpoint"
            raise RecipeError(explain(error, where)) from None
        changed = {**self.provenance.get("changed_settings", {}), **changes}
        return replace(
            self,
            settings=settings.model_dump(mode="json"),
            provenance=self.provenance | {"changed_settings": changed},
        )

    def _other_meshes(self) -> dict[str, Mesh]:
        return {name: mesh for name, mesh in self.meshes.items() if mesh != self.mesh}

    def mesh_of(self, detector: str) -> Mesh:
        """Cells of the showers in a detector; CheckpointError where that matters and it is not known."""
        if detector in self.meshes or not self._other_meshes():
            return self.meshes.get(detector, self.mesh)
        raise CheckpointError(
            f"the checkpoint {self.path or ''} makes showers in {enumerated(self.meshes)}, each on "
            f"cells of its own, but not in {detector!r}; choose one of these, or adapt it (caloforge adapt)"
        )

    def range_of(self, detector: str) -> dict[str, Any]:
        """Range of the training showers in a detector, or of all where there is none of its own."""
        return self.valid_ranges.get(detector, self.valid_range)

    def in_half(self, prefix: str) -> Checkpoint:
        """The same with the tensors whose names begin with ``prefix`` in float16, which halves their file.

        For networks that run in bfloat16, which keeps three bits less. Reading it makes them float32 again.
        """
        tensors = {
            name: tensor.half() if name.startswith(prefix) and tensor.dtype == torch.float32 else tensor
            for name, tensor in self.tensors.items()
        }
        return replace(self, tensors=tensors, path=None)

    def require_mesh(self, mesh: Mesh, what: str, detector: str = "") -> None:
        """CheckpointError unless ``mesh`` has the cells that the model was trained on in the detector."""
        own = self.mesh_of(detector)
        if mesh != own:
            raise CheckpointError(
                f"{what} has a {mesh} [{mesh.fingerprint}], but the checkpoint {self.path or ''} makes "
                f"showers on a {own} [{own.fingerprint}]; train on this mesh or use other showers"
            )

    def save(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> Path:
        """Write it into the folder ``path``, which is returned.

        Raises:
            CheckpointError: there is a checkpoint already, or the disk does not take it.
        """
        about = {
            "model": self.model_name,
            "settings": self.settings,
            "detectors": list(self.detectors),
            "valid_range": self.valid_range,
            "metrics": self.metrics,
            "seed": self.seed,
            "recipe": self.recipe,
            "mesh_fingerprint": self.mesh.fingerprint,
            "mesh": self.mesh.to_dict(),
            "other_meshes": {
                name: {"fingerprint": mesh.fingerprint, "mesh": mesh.to_dict()}
                for name, mesh in self._other_meshes().items()
            },
            "valid_ranges": self.valid_ranges,
            "provenance": self.provenance,
        }
        folder = Path(path)
        write_folder(folder, about, self.tensors, overwrite=overwrite)
        self.path = folder
        return folder

    @classmethod
    def load(cls, source: Checkpoint | str | os.PathLike[str]) -> Checkpoint:
        """Read a checkpoint and check it.

        Args:
            source: its folder, a name of `pretrained_names`, or "gflash:DETECTOR", see `of_detector`; a
                checkpoint is returned as it is.

        Raises:
            CheckpointError: it is missing, truncated, foreign, of another version or inconsistent.
        """
        if isinstance(source, Checkpoint):
            return source
        folder, name = Path(source), os.fspath(source)
        if name.startswith(GFLASH) and not folder.exists():
            return cls.of_detector(Detector.load(name.removeprefix(GFLASH)))
        try:
            if not folder.exists() and folder.name == name:
                folder = pretrained_folder(folder.name)
            about, tensors = read_folder(folder)
        except OSError as error:
            raise CheckpointError(f"{folder}: cannot be looked into ({error.strerror})") from error
        where = folder / ABOUT
        About.check(about, where)
        mesh = _mesh(about["mesh"], about["mesh_fingerprint"], where)
        meshes = dict.fromkeys(about["detectors"], mesh) | {
            name: _mesh(other["mesh"], other["fingerprint"], where)
            for name, other in about.get("other_meshes", {}).items()
        }
        return cls(
            model_name=about["model"],
            settings=about["settings"],
            mesh=mesh,
            valid_range=about["valid_range"],
            tensors=tensors,
            detectors=tuple(about["detectors"]),
            meshes=meshes,
            valid_ranges=about.get("valid_ranges", {}),
            recipe=about["recipe"],
            provenance=about["provenance"],
            seed=int(about["seed"]),
            metrics=about["metrics"],
            path=folder,
        )


def _misfits(expected: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> list[str]:
    """What is wrong with the names, shapes and types of the given tensors."""
    wrong = [f"{name} is missing" for name in expected if name not in given]
    wrong += [f"{name} is unknown" for name in given if name not in expected]
    return (
        wrong
        + [
            f"{name} has shape {tuple(given[name].shape)} instead of {tuple(tensor.shape)}"
            for name, tensor in expected.items()
            if name in given and given[name].shape != tensor.shape
        ]
        + [
            f"{name} is of type {given[name].dtype} instead of {tensor.dtype}"
            for name, tensor in expected.items()
            if name in given and given[name].is_floating_point() != tensor.is_floating_point()
        ]
    )


def _mesh(description: dict[str, Any], fingerprint: str, where: Path) -> Mesh:
    try:
        mesh = mesh_from_dict(description)
    except MeshError as error:
        raise CheckpointError(f"{where}: {error}; the file is damaged") from error
    if mesh.fingerprint != fingerprint:
        raise CheckpointError(
            f"{where}: the mesh has fingerprint {mesh.fingerprint}, but the model was trained on "
            f"{fingerprint}; the file was changed after training"
        )
    return mesh
