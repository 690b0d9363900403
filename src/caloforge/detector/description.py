"""What all detector files share: TOML tables that are validated, and detectors by name or path.

There are two kinds, calorimeters (`caloforge.detector.detector`) and pixel detectors
(`caloforge.detector.pixel`), each with a folder of those that come with caloforge.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from caloforge.detector.materials import ATOMIC
from caloforge.errors import DetectorError, MeshError
from caloforge.runtime.files import read_toml

__all__ = ["DetectorFile", "Material", "Table", "kind_of"]

FILES = Path(__file__).with_name("files")


class Table(BaseModel):
    """A table of a detector file: unknown keys are errors, numbers are finite."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Material(Table):
    """A material that Geant4's NIST table lacks: density and mass fractions by element symbol.

    Attributes:
        name: as layers name it.
        density_g_cm3: its density.
        mass_fractions: ``{ Si = 1.0 }``; they add up to 1.
    """

    name: str
    density_g_cm3: float = Field(gt=0)
    mass_fractions: dict[str, float] = Field(min_length=1)

    @model_validator(mode="after")
    def _check(self) -> Material:
        total = sum(self.mass_fractions.values())
        if abs(total - 1) > 1e-3 or min(self.mass_fractions.values()) <= 0:
            raise ValueError(
                f"mass_fractions of {self.name} must be positive and add up to 1, they add up to {total:.4g}"
            )
        unknown = sorted(set(self.mass_fractions) - set(ATOMIC))
        if unknown:
            raise ValueError(f"elements {unknown} of {self.name} are unknown; known are {', '.join(ATOMIC)}")
        return self


class DetectorFile(Table):
    """A detector as a data file; a subclass is a kind of detector.

    Attributes:
        what: the kind, for messages.
        folder: where those that come with caloforge are.
        name: letters, digits, ``.``, ``_`` and ``-``.
        description: one line: what it is, and where it is published.
        simplifications: what is left out.
        materials: ``[[materials]]`` that are none of Geant4's.
    """

    what: ClassVar[str]
    folder: ClassVar[Path]

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    description: str
    simplifications: str
    materials: tuple[Material, ...] = ()

    def _require_materials(self, names: tuple[str, ...]) -> None:
        own = {material.name for material in self.materials}
        for name in names:
            if not name.startswith("G4_") and name not in own:
                raise ValueError(
                    f"material {name!r} is neither a NIST material (G4_...) nor defined in [[materials]]"
                )

    @classmethod
    def names(cls) -> list[str]:
        """Names of the detectors of this kind that come with caloforge."""
        return sorted(path.stem for path in cls.folder.glob("*.toml"))

    @classmethod
    def load(cls, name_or_path: str | os.PathLike[str]) -> Self:
        """The detector of this name, or of a TOML file at this path.

        Raises DetectorError where there is none or it is malformed, naming the file and the key.
        """
        text, names = os.fspath(name_or_path), cls.names()
        if text in names:
            return cls.from_dict(read_toml(cls.folder / f"{text}.toml", error=DetectorError), f"{text}.toml")
        if any(text == path.stem for path in FILES.rglob("*.toml")):
            raise DetectorError(f"{text} is no {cls.what}; give one of: {', '.join(names)}")
        try:
            return cls.from_dict(read_toml(text, error=DetectorError), text)
        except DetectorError as error:
            if isinstance(error.__cause__, FileNotFoundError):
                raise DetectorError(
                    f"there is no detector or file {text!r}; give the path of a TOML file or one of: "
                    + ", ".join(names)
                ) from None
            raise

    @classmethod
    def from_dict(cls, description: dict[str, Any], where: str = "detector") -> Self:
        """A detector from `to_dict` or a parsed TOML file; ``where`` names the source in errors."""
        try:
            detector = cls.model_validate(description)
            detector._build()
        except ValidationError as error:
            lines = [f"{'.'.join(map(str, e['loc'])) or 'file'}: {e['msg']}" for e in error.errors()]
            raise DetectorError(f"{where}: " + "; ".join(lines)) from None
        except MeshError as error:
            raise DetectorError(f"{where}: mesh: {error}") from None
        return detector

    def _build(self) -> None:
        """Make what is made of the description, where that may fail."""

    def to_dict(self) -> dict[str, Any]:
        """A JSON-able description that `from_dict` reads."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


def kind_of(name_or_path: str | os.PathLike[str]) -> str:
    """The kind of a detector: "pixel", or "" for a calorimeter or what cannot be read."""
    text = os.fspath(name_or_path)
    if (FILES / "pixel" / f"{text}.toml").is_file():
        return "pixel"
    if not Path(text).is_file():
        return ""
    return str(read_toml(text, error=DetectorError).get("kind", ""))
