"""Exchangeable parts by name: one way to look up backbones, samplers, file formats, … and to add one.

A `Registry` holds the parts of one kind. Those of caloforge live in the modules of one package, which are
imported when a name is looked up, so that a new part is a new file there:

    @BACKBONES.add("unet")
    class CylinderUNet(Backbone): ...

A part from elsewhere is added in the same way by any module that is imported before, is named
``"yourpackage.module:Name"`` where a name is expected, or is announced by an installed package as an entry
point of the registry's ``group``. docs/how-to/extending.md has an example of each kind.

Names stand in files that may come from anywhere: recipes, checkpoints, detectors, showers. A name therefore
never makes Python import another package than caloforge, unless the user has named that to `allow_code`.
"""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import os
import pkgutil
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from caloforge.errors import CaloforgeError, CodeError, RecipeError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

__all__ = ["Registry", "allow_code", "enumerated", "load_object", "suggestion"]

ALLOWED = "CALOFORGE_ALLOW_CODE"
"""Environment variable with the allowed packages, so that child processes have them too."""

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
                self._parts[name] = load_object(name, self.what, package=self.package, error=self.error)
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
        except CodeError:
            raise
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
            self._announced = _announced(self.group)
            home = importlib.import_module(self.package)
            for module in pkgutil.iter_modules(getattr(home, "__path__", [])):
                importlib.import_module(f"{self.package}.{module.name}")
        return self._announced


def _home(part: object) -> tuple[str, str]:
    return getattr(part, "__module__", ""), getattr(part, "__qualname__", repr(part))


def _announced(group: str) -> dict[str, EntryPoint]:
    """The entry points of a group by name; of installed packages, not of what the working directory holds."""
    from importlib.metadata import distributions

    found: dict[str, EntryPoint] = {}
    for package in distributions(path=[folder for folder in sys.path if folder]):
        for point in package.entry_points:
            if point.group == group:
                found.setdefault(point.name, point)
    return found


def allow_code(*packages: str) -> None:
    """Let names in recipes, checkpoints and other files stand for code of these packages, and run it.

    Holds for this process and those that it starts. Code can do whatever you can: allow what you trust.

    Args:
        packages: packages or modules, "mylab" or "mylab.backbone"; what is inside them is allowed too.

    Raises:
        CodeError: one is not the name of a package.
    """
    for name in packages:
        if not _is_module_name(name):
            raise CodeError(f'{name!r} is not the name of a package, such as "yourpackage"')
    os.environ[ALLOWED] = ",".join(dict.fromkeys([*_allowed(), *packages]))


def _allowed() -> list[str]:
    return list(filter(None, os.environ.get(ALLOWED, "").split(",")))


def load_object(name: str, what: str, *, package: str, error: type[CaloforgeError] = RecipeError) -> Any:
    """What "module:Name" stands for: something of ours in ``package``, or something else that is allowed.

    Modules in ``package``, "caloforge.models", may be named without it. Anything else needs `allow_code`, but
    for classes derived from ours in modules that the program has imported already, which child processes may
    then import, too.

    Raises:
        CodeError: it is code of a package that is not allowed. Nothing of it was run.
        CaloforgeError: the name is malformed, or there is no such module or name; of the kind ``error``.
    """
    module_name, _, attribute = name.partition(":")
    if not (_is_module_name(module_name) and attribute.isidentifier()):
        raise error(f'{what} {name!r} is not of the form "module:Name"')
    part = f"{what} {name!r}"
    ours = module_name if _within(module_name, package) else f"{package}.{module_name}"
    no_module = error(
        f"{what} {name!r}: there is no module {' or '.join(dict.fromkeys([ours, module_name]))}"
    )
    if _exists(ours):
        return _attribute(ours, attribute, part, error, inside="caloforge")
    if any(_within(module_name, allowed) for allowed in _allowed()):
        if not _exists(module_name):
            raise no_module
        return _attribute(module_name, attribute, part, error)
    found = getattr(sys.modules.get(module_name), "__dict__", {}).get(attribute)
    if _derived_from_ours(found) and not _within(module_name, "caloforge"):
        if module_name != "__main__":
            allow_code(module_name)
        return found
    top = module_name.partition(".")[0]
    if top == "caloforge" or not _exists(top):
        raise no_module
    raise CodeError(
        f"{part} is code of {top!r}, which is not part of caloforge; nothing of it was run. If you trust it, "
        f"allow it: --allow-code {top} on the command line, caloforge.allow_code({top!r}) in Python"
    )


def _attribute(
    module_name: str, attribute: str, where: str, error: type[CaloforgeError], inside: str = ""
) -> Any:
    """What a module, which is imported, has by a name; only what is defined ``inside`` a package, if any."""
    module = importlib.import_module(module_name)
    own = [key for key, v in vars(module).items() if getattr(v, "__module__", "") == module_name]
    found = getattr(module, attribute, None)
    if found is None or (inside and not _within(getattr(found, "__module__", None) or "", inside)):
        raise error(
            f"{where}: {module_name} has no {attribute}{suggestion(attribute, own)}; "
            f"it has {', '.join(key for key in own if not key.startswith('_')) or 'nothing'}"
        )
    return found


def _exists(module_name: str) -> bool:
    """Is there such a module? To find that out, Python imports the packages that it is in."""
    try:
        return module_name in sys.modules or importlib.util.find_spec(module_name) is not None
    except (ModuleNotFoundError, ValueError):
        return False


def _is_module_name(name: str) -> bool:
    return all(part.isidentifier() for part in name.split("."))


def _within(module_name: str, package: str) -> bool:
    return f"{module_name}.".startswith(f"{package}.")


def _derived_from_ours(part: object) -> bool:
    return isinstance(part, type) and any(_within(base.__module__, "caloforge") for base in part.__mro__)


def enumerated(names: Iterable[str], most: int = 10) -> str:
    """Names in a row; of very many the first, and how many more there are."""
    known = list(names)
    more = len(known) - most
    return ", ".join(known) if more <= 1 else f"{', '.join(known[:most])} and {more} more"


def suggestion(name: str, known: list[str]) -> str:
    """ " (did you mean …?)" with the nearest of the known names, or nothing."""
    near = difflib.get_close_matches(name, known, n=1)
    return f" (did you mean {near[0]!r}?)" if near else ""
