"""Exchangeable parts by name: one way to look up backbones, samplers, file formats, … and to add one.

A `Registry` holds the parts of one kind. Those of caloforge live in the modules of one package, which are
imported when a name is looked up, so that a new part is a new file there:

    @BACKBONES.add("unet")
    class CylinderUNet(Backbone): ...

A part from elsewhere is added in the same way by any module that is imported before, is named
``"yourpackage.module:Name"`` where a name is expected, or is announced by an installed package as an entry
point of the registry's ``group``.
"""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import pkgutil
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import entry_points
from typing import Annotated, Any, Generic, TypeVar, cast

from pydantic import BaseModel, BeforeValidator, SerializeAsAny

from caloforge.errors import CaloforgeError, RecipeError

__all__ = ["Registry", "load_object", "suggestion"]

T = TypeVar("T")
Added = TypeVar("Added")


class Registry(Generic[T]):
    """Parts of one kind by name.

    Args:
        what: what a part is called in messages, "backbone".
        package: where caloforge's own parts are, "caloforge.models.diffusion.backbones".
        error: raised where there is no part of a name.
    """

    def __init__(self, what: str, package: str, error: type[CaloforgeError] = RecipeError) -> None:
        self.what, self.package, self.error = what, package, error
        self.group = f"caloforge.{what.replace(' ', '_')}"
        self._parts: dict[str, T] = {}
        self._complete = False

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
            self._complete_parts()
        if name not in self._parts and ":" in name:
            self._parts[name] = load_object(name, self.what, error=self.error)
        if name not in self._parts:
            for point in entry_points(group=self.group, name=name):
                self._parts[name] = point.load()
        if name not in self._parts:
            raise self.error(
                f"there is no {self.what} {name!r}{suggestion(name, self.names())}; known are "
                f'{", ".join(self.names())}, or name one of your own: "yourpackage.module:Name"'
            )
        return self._parts[name]

    def names(self) -> list[str]:
        """Names of all parts that are known, those of entry points included."""
        self._complete_parts()
        return sorted({*self._parts, *(point.name for point in entry_points(group=self.group))})

    def __iter__(self) -> Iterator[T]:
        """All parts that are known, in the order of their names."""
        return (self[name] for name in self.names())

    def settings(self, default: str) -> Any:
        """Type of a settings field that is a table with the ``kind`` of a part, ``default`` if it has none.

        Parts are classes whose ``Settings`` are the table; what is validated is an instance of that class.
        """

        def validated(given: Any) -> Any:
            if not isinstance(given, Mapping):
                return given
            part: Any = self[str(given.get("kind", default))]
            return part.Settings.model_validate(dict(given))

        return Annotated[SerializeAsAny[BaseModel], BeforeValidator(validated)]

    def _complete_parts(self) -> None:
        """Import the modules of the package, once."""
        if self._complete:
            return
        self._complete = True
        home = importlib.import_module(self.package)
        for module in pkgutil.iter_modules(getattr(home, "__path__", [])):
            importlib.import_module(f"{self.package}.{module.name}")


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
