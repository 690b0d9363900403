"""What models have in common that learn from a trained one."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from caloforge.data.showers import Showers
from caloforge.errors import RecipeError
from caloforge.models.base import GeneratorModel
from caloforge.models.trainable import Trainable

__all__ = ["Student"]


class Student(GeneratorModel):
    """A model whose statistics are its teacher's, and which is trained by it.

    Attributes:
        teacher_class: what teachers of this student are.
    """

    teacher_class: ClassVar[type[Trainable]]
    _teacher: tuple[Trainable, ...] = ()  # so that it is in no state dict

    def teacher(self) -> Trainable:
        """The model to learn from; RecipeError without one."""
        if not self._teacher:
            raise RecipeError(
                f"{type(self).__name__} learns from a trained {self.teacher_class.__name__}; give its "
                "checkpoint: train(..., teacher=FOLDER) or caloforge train ... --teacher FOLDER"
            )
        return self._teacher[0]

    def require_same_settings(self, teacher: Trainable, names: Iterable[str]) -> None:
        """RecipeError unless these settings are the teacher's."""
        for name in names:
            own, expected = getattr(self.settings, name), getattr(teacher.settings, name)
            if own != expected:
                raise RecipeError(
                    f"settings.{name} of a student must be that of its teacher: got {own}, "
                    f"the teacher has {expected}"
                )

    def fit(self, showers: Showers) -> None:
        """All statistics are the teacher's."""
        self.teacher()
