"""Pages of the reference that the code makes: commands, recipes, keys of files, layouts of results."""

from __future__ import annotations

import importlib
import inspect
import json
import re
import textwrap
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, get_args

import typer
from docutils import nodes
from pydantic import BaseModel
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from caloforge.cli.app import app
from caloforge.training import Recipe


class Generated(SphinxDirective):
    """A directive whose Markdown is made by `lines`; its argument says of what."""

    optional_arguments = 1

    def lines(self) -> Iterable[str]:
        raise NotImplementedError

    def run(self) -> list[nodes.Node]:
        self.env.note_dependency(__file__)
        return self.parse_text_to_nodes("\n".join(self.lines()), allow_section_headings=True)


class Commands(Generated):
    """All commands with their arguments and options."""

    def lines(self) -> Iterator[str]:
        yield from describe_group(typer.main.get_command(app), "caloforge")


def describe_group(group: Any, name: str) -> Iterator[str]:
    """A group of click, or of what typer has of it in its own packages."""
    for child in group.commands.values():
        path = f"{name} {child.name}"
        if hasattr(child, "commands"):
            yield from (f"## {path}", "", str(child.help or ""), "")
            yield from describe_group(child, path)
        else:
            yield from describe_command(child, path, level=2 + (name != "caloforge"))


def describe_command(command: Any, path: str, level: int) -> Iterator[str]:
    context = command.context_class(command, info_name=path)
    yield from ("#" * level + f" {path}", "")
    yield from ("```text", " ".join([path, *command.collect_usage_pieces(context)]), "```", "")
    yield from (prose(inspect.cleandoc(command.help or "")), "")
    rows = [
        (spelled(parameter), prose(getattr(parameter, "help", None) or ""), default_of(parameter, context))
        for parameter in command.get_params(context)
        if parameter.name != "help"
    ]
    yield from table(("option", "what it does", "default"), rows)


def spelled(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        return f"`{parameter.name.upper()}`"
    return ", ".join(f"`{option}`" for option in (*parameter.opts, *parameter.secondary_opts))


def default_of(parameter: Any, context: Any) -> str:
    if parameter.required:
        return "required"
    default = parameter.get_default(context)
    return "" if default in (None, False, (), []) or callable(default) else f"`{default}`"


class Recipes(Generated):
    """The table of recipes, from their TOML files."""

    def lines(self) -> Iterable[str]:
        recipes = [(name, Recipe.load(name)) for name in Recipe.names()]
        rows = [
            (f"`{name}`", prose(recipe.description), f"`{recipe.model}`", length_of(recipe), data_of(recipe))
            for name, recipe in recipes
        ]
        return table(("recipe", "what it is", "model", "length", "showers"), rows)


def length_of(recipe: Recipe) -> str:
    training = recipe.training
    length = f"{training.epochs} epochs" if training.epochs is not None else f"{training.steps:,} steps"
    return f"{length} of {training.batch_size}" if training.steps != 0 else "one pass"


def data_of(recipe: Recipe) -> str:
    wanted = (*recipe.data.meshes, *recipe.data.detectors, *recipe.data.particles)
    return ", ".join(wanted) or "any"


class Keys(Generated):
    """Keys of a table that users write, from its pydantic model: ``module:Class``."""

    required_arguments, optional_arguments = 1, 0

    def lines(self) -> Iterable[str]:
        module, _, name = self.arguments[0].partition(":")
        model = getattr(importlib.import_module(module), name)
        meaning = attributes_of(model)
        if missing := [key for key in model.model_fields if not meaning.get(key)]:
            raise self.error(f"{self.arguments[0]} does not say what {', '.join(missing)} mean")
        rows = [
            (f"`{field.alias or key}`", kind_of(field), limits_of(field), meaning[key])
            for key, field in model.model_fields.items()
        ]
        return [summary_of(model), "", *table(("key", "is", "default, limits", "meaning"), rows)]


def summary_of(model: type[BaseModel]) -> str:
    text = inspect.getdoc(model) or ""
    return prose(text.partition("\nAttributes:")[0].strip())


def attributes_of(model: type[BaseModel]) -> dict[str, str]:
    """Meaning of each key: what the class and those it is made of say under ``Attributes:``, or its field."""
    found: dict[str, str] = {}
    for cls in reversed(model.__mro__):
        _, _, section = inspect.cleandoc(cls.__doc__ or "").partition("Attributes:\n")
        for entry in re.split(r"\n(?=\S)", textwrap.dedent(section).strip()):
            key, colon, meaning = entry.partition(": ")
            if colon and key.isidentifier():
                found[key] = prose(" ".join(meaning.split()))
    described = {
        key: prose(field.description) for key, field in model.model_fields.items() if field.description
    }
    return described | found


def kind_of(field: Any) -> str:
    """The type of a key as one would say it in TOML."""
    return f"`{say_type(field.annotation)}`"


WORDS = {float: "number", int: "whole number", str: "text", bool: "true | false"}


def say_type(annotation: Any) -> str:
    options = get_args(annotation)
    origin = getattr(annotation, "__origin__", None)
    if not options:
        return WORDS.get(annotation) or getattr(annotation, "__name__", str(annotation))
    if str(annotation).startswith("typing.Literal"):
        return " | ".join(json.dumps(option) for option in options)
    if origin is tuple or origin is list:
        inner = [say_type(option) for option in options if option is not Ellipsis]
        return f"[{', '.join(inner)}{', …' if Ellipsis in options or origin is list else ''}]"
    if origin is dict:
        return "table"
    if hasattr(annotation, "__metadata__"):
        return say_type(options[0])
    return " | ".join(say_type(option) for option in options if option is not type(None))


def limits_of(field: Any) -> str:
    words = {"gt": ">", "ge": "≥", "lt": "<", "le": "≤", "min_length": "at least"}
    limits = [
        f"{word} {getattr(limit, name)}"
        for limit in field.metadata
        for name, word in words.items()
        if getattr(limit, name, None) is not None
    ]
    if field.is_required():
        return ", ".join(["required", *limits])
    default = field.default
    shown = (
        "" if default is None or isinstance(default, BaseModel) else f"`{json.dumps(default, default=str)}`"
    )
    return ", ".join(filter(None, [shown, *limits]))


class Schema(Generated):
    """Tables of a JSON schema, one of each object in it: a file beside the page."""

    required_arguments, optional_arguments = 1, 0

    def lines(self) -> Iterator[str]:
        file = Path(self.env.doc2path(self.env.docname)).parent / self.arguments[0]
        self.env.note_dependency(file)
        schema = json.loads(file.read_text(encoding="utf-8"))
        yield from describe_object(schema)
        for name, part in schema.get("$defs", {}).items():
            if "properties" in part:
                yield from (f"## {name}", "")
                yield from describe_object(part)


def describe_object(part: dict[str, Any]) -> Iterator[str]:
    yield from (prose(part.get("description", "").split("\n\n")[0]), "")
    rows = [
        (f"`{key}`", say_schema(value), prose(value.get("description", "")))
        for key, value in part.get("properties", {}).items()
    ]
    yield from table(("key", "is", "meaning"), rows)


def say_schema(value: dict[str, Any]) -> str:
    if "$ref" in value:
        name = value["$ref"].rsplit("/", 1)[1]
        return f"[{name}](#{name.lower()})"
    if "anyOf" in value:
        return " or ".join(say_schema(option) for option in value["anyOf"])
    if value.get("type") == "array":
        return f"list of {say_schema(value.get('items', {}))}"
    if value.get("type") == "object":
        inner = value.get("additionalProperties")
        return f"table of {say_schema(inner)}" if isinstance(inner, dict) else "table"
    kind = value.get("type", "anything")
    return " or ".join(kind) if isinstance(kind, list) else str(kind)


def table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> list[str]:
    """A table of Markdown, or nothing where it has no rows; columns that are empty are left out."""
    rows = [tuple(cell.replace("|", "\\|").replace("\n", " ") for cell in row) for row in rows]
    kept = [i for i in range(len(head)) if any(row[i] for row in rows)]
    if not rows:
        return []
    lines = [tuple(head), ("---",) * len(head), *rows]
    return [*("| " + " | ".join(line[i] for i in kept) + " |" for line in lines), ""]


def prose(text: str) -> str:
    """Text of a docstring or a help as Markdown: ``x`` is code, what looks like a tag is text."""
    return re.sub(r"``(.+?)``", r"`\1`", text).replace("<", "&lt;")


def setup(application: Sphinx) -> dict[str, bool]:
    for name, directive in (("commands", Commands), ("recipes", Recipes), ("keys", Keys), ("schema", Schema)):
        application.add_directive(name, directive)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
