"""Exchangeable parts by name: one way to look up backbones, samplers, file formats, … and to add one.

A `Registry` holds the parts of one kind. Those of caloforge live in the modules of one package, which are
imported when a name is looked up, so that a new part is a new file there:

    @BACKBONES.add("unet")
    class CylinderUNet(Backbone): ...

A part from elsewhere is added in the same way by any module that is imported before, is named
``"yourpackage.module:Name"`` where a name is expected, or is announced by an installed package as an entry
point of the registry's ``group``. docs/extending.md has an example of each kind.
"""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import pkgutil
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from caloforge.errors import CaloforgeError, RecipeError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

__all__ = ["Registry", "load_object", "suggestion"]

T = TypeVar("T")
Added = TypeVar("Added")


class Registry(Generic[T]):
    """Parts of one kind by name.

    Args:
        what: what a part is called in messages, "backbone".
        package: where caloforge's own parts are, "caloforge.models.diffusion.backbones".
        default: name of the part that a table of settings without ``kind`` means.
        error: raised where there is no part of a name.

    Attributes:
        group: the entry points that packages announce parts by, "caloforge.backbone".
    """

    def __init__(
        self, what: str, package: str, *, default: str = "", error: type[CaloforgeError] = RecipeError
    ) -> None:
        self.what, self.package, self.default, self.error = what, package, default, error
        self.group = f"caloforge.{what.replace(' ', '_')}"
        self._parts: dict[str, T] = {}
        self._announced: dict[str, EntryPoint] | None = None

    def add(self, name: str) -> Callable[[Added], Added]:
        """A decorator that adds a part; ValueError where another one has the name."""

        def added(part: Added) -> Added:
            known = self._parts.get(name)
            if known is not None and _home(known) != _home(part):
                raise ValueError(f"two parts are called {self.what} {name!r}: {known} and {part}")
            self._parts[name] = cast(T, part)
            return part

        return added

    def __getitem__(self, name: str) -> T:
        """The part called ``name``.

        Raises:
            CaloforgeError: there is none; of the registry's own kind.
        """
        if name not in self._parts:
            announced = self._complete()
            if name in self._parts:
                pass  # its module is imported now
            elif name in announced:
                self._parts[name] = self._load(announced[name])
            elif ":" in name:
                self._parts[name] = load_object(name, self.what, error=self.error)
            else:
                raise self.error(
                    f"unknown {self.what} {name!r}{suggestion(name, self.names())}; known are "
                    f'{", ".join(self.names())}, or name one of your own: "yourpackage.module:Name"'
                )
        return self._parts[name]

    def names(self) -> list[str]:
        """Names of all parts that are known, those of entry points included."""
        announced = self._complete()
        return sorted({*announced, *(name for name in self._parts if ":" not in name)})

    def __iter__(self) -> Iterator[T]:
        """All parts that are known, in the order of their names."""
        return (self[name] for name in self.names())

    def settings(self, table: Any) -> Any:
        """The ``Settings`` of the part that a table names by ``kind``, validated; anything else as it is.

        For parts that are classes with ``Settings`` of their own. A settings field of them is
        ``Annotated[SerializeAsAny[KindSettings], BeforeValidator(BACKBONES.settings)]``.

        Raises:
            ValidationError: there is no such part, or its settings are wrong.
        """
        from pydantic import ValidationError  # files are read without pydantic
        from pydantic_core import InitErrorDetails, PydanticCustomError

        if not isinstance(table, Mapping):
            return table
        kind = table.get("kind", self.default)
        try:
            part: Any = self[str(kind)]
        except CaloforgeError as error:
            problem = PydanticCustomError("unknown_part", "{message}", {"message": str(error)})
            raise ValidationError.from_exception_data(
                self.what, [InitErrorDetails(type=problem, loc=("kind",), input=kind)]
            ) from None
        return part.Settings.model_validate({"kind": kind, **table})

    def _load(self, point: EntryPoint) -> T:
        try:
            return cast(T, point.load())
        except (ImportError, AttributeError) as error:
            raise self.error(
                f"{self.what} {point.name!r}, which is announced as {point.value!r} by an entry point of "
                f"{self.group}, cannot be imported: {error}"
            ) from error

    def _complete(self) -> dict[str, EntryPoint]:
        """Import the modules of the package, once; returns what installed packages announce."""
        if self._announced is None:
            from importlib.metadata import entry_points

            self._announced = {point.name: point for point in entry_points(group=self.group)}
            home = importlib.import_module(self.package)
            for module in pkgutil.iter_modules(getattr(home, "__path__", [])):
                importlib.import_module(f"{self.package}.{module.name}")
        return self._announced


def _home(part: object) -> tuple[str, str]:
    return getattr(part, "__module__", ""), getattr(part, "__qualname__", repr(part))


def load_object(name: str, what: str, *, package: str = "", error: type[CaloforgeError] = RecipeError) -> Any:
    """What "module:Name" stands for; modules are looked for in ``package`` first, then as absolute names.

    Raises:
        CaloforgeError: the name is malformed, or there is no such module or name; of the kind ``error``.
    """
    module_name, colon, attribute = name.partition(":")
    if not (colon and module_name and attribute):
        raise error(f'{what} {name!r} is not of the form "module:Name"')
    candidates = [*([f"{package}.{module_name}"] if package else []), module_name]
    for full_name in candidates:
        try:
            found = importlib.util.find_spec(full_name) is not None
        except (ModuleNotFoundError, ValueError):
            found = False
        if found:
            module = importlib.import_module(full_name)
            if hasattr(module, attribute):
                return getattr(module, attribute)
            own = [key for key, v in vars(module).items() if getattr(v, "__module__", "") == full_name]
            raise error(
                f"{what} {name!r}: {full_name} has no {attribute}{suggestion(attribute, own)}; "
                f"it has {', '.join(key for key in own if not key.startswith('_')) or 'nothing'}"
            )
    raise error(f"{what} {name!r}: there is no module {' or '.join(candidates)}")


def suggestion(name: str, known: list[str]) -> str:
    """ " (did you mean …?)" with the nearest of the known names, or nothing."""
    near = difflib.get_close_matches(name, known, n=1)
    return f" (did you mean {near[0]!r}?)" if near else ""
