"""Pages from templates: one file that loads nothing from anywhere and is inert against hostile names."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from caloforge.errors import DataError
from caloforge.report.figures.style import require_drawing_packages
from caloforge.report.script_data import script_json
from caloforge.report.words.text import group_title, number, percent, scatter, with_error
from caloforge.runtime.files import write_text
from caloforge.runtime.provenance import code_version

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

__all__ = ["page_path", "render", "write_page"]


def page_path(out: str | os.PathLike[str], name: str, what: str, *, overwrite: bool) -> Path:
    """Where the page ``name`` of a report or comparison (``what``) goes, where it can be made.

    Raises:
        DataError: ``out`` is a file, or holds a page that must not be overwritten.
        MissingDependencyError: a package that draws is not installed.
    """
    folder = Path(out)
    page = folder / name
    if folder.exists() and not folder.is_dir():
        raise DataError(f"{folder} is a file; name a folder for the {what}")
    if page.exists() and not overwrite:
        raise DataError(f"{page} exists; choose another folder or allow overwriting (--overwrite)")
    require_drawing_packages()
    return page


def write_page(path: Path, template: str, values: Mapping[str, Any]) -> None:
    """Write what `render` makes of a template, whole or not at all."""
    write_text(path, render(template, values))


def render(template: str, values: Mapping[str, Any]) -> str:
    """The page of a template that extends ``page.html``.

    Args:
        template: name of a file in ``report/templates``.
        values: what the template uses, and of every page ``title``, ``subtitle`` and ``time``.
    """
    return _environment().get_template(template).render(contents=[], **values)


@cache
def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=PackageLoader("caloforge.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    assets = files("caloforge.report") / "assets"
    environment.globals |= {
        "version": code_version(),
        "style": Markup((assets / "page.css").read_text(encoding="utf-8")),
        "script": Markup((assets / "page.js").read_text(encoding="utf-8")),
        "percent": percent,
        "scatter": scatter,
        "with_error": with_error,
    }
    environment.filters |= {
        "group_title": group_title,
        "number": number,
        "prose": prose,
        "script_json": lambda value: Markup(script_json(value)),
    }
    return environment


def prose(text: str) -> Markup:
    """The text as HTML in which numbers stay with their errors and units, and E_inc has its index."""
    from markupsafe import Markup, escape

    if isinstance(text, Markup):
        return text
    html = str(escape(text)).replace(" ± ", " ±\u00a0").replace(" %", "\u00a0%").replace(" σ", "\u00a0σ")
    return Markup(re.sub(r"\bE_(inc|tot)\b", r"E<sub>\1</sub>", html))
