"""An option that an error advises is one of the commands that can raise it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import typer
from typer.testing import CliRunner

import caloforge
from caloforge.cli.app import app
from caloforge.errors import CaloforgeError

SOURCE = Path(caloforge.__file__).parent
OPTION = re.compile(r"(?<![\w-])--[a-z][a-z0-9-]*")
NAMED = re.compile(r"caloforge ((?:data |campaign )?[a-z]+)\b[^;,)]*$")
"""A command that a text names before the option."""

DATA = ("data info", "data convert", "data split", "data merge")
WRITERS = (*DATA[1:], "simulate", "generate", "upsample")
READERS = (*DATA, "train", "adapt", "generate", "upsample", "demo", "evaluate", "compare", "bench", "amplify")
RAISED_BY = {
    "bench": ("bench",),
    "campaign/merge.py": ("campaign merge",),
    "campaign/submit.py": ("campaign submit",),
    "checkpoint": ("generate", "upsample", "export", "demo", "adapt", "train", "bench"),
    "data/download.py": ("data download",),
    "data/exports": ("data convert",),
    "data/formats": READERS,
    "data/hdf5_writer.py": WRITERS,
    "data/pixels/images.py": ("data convert",),
    "data/writer.py": WRITERS,
    "demo": ("demo",),
    "doctor.py": ("generate",),
    "evaluation": ("evaluate", "compare"),
    "exports": ("export",),
    "fast": ("simulate",),
    "fast/server.py": ("serve",),
    "generation/given.py": ("upsample",),
    "generation/events.py": ("generate",),
    "generation/production.py": ("generate", "upsample"),
    "generation/request.py": ("generate",),
    "generation/trained.py": ("generate", "bench"),
    "geant4": ("simulate",),
    "models": ("train", "adapt"),
    "registry.py": (*READERS, "simulate", "quickstart"),
    "report/compare.py": ("compare",),
    "report/evaluate.py": ("evaluate",),
    "report/page.py": ("evaluate", "compare"),
    "report/words": ("compare",),
    "runtime/chunks.py": ("simulate", "generate", "upsample"),
    "training": ("train", "adapt"),
}
"""Which commands can raise the errors of a module, where these name options."""
ELSEWHERE = {
    "--always",
    "--dirty",
    "--abbrev",
    "--exclude",
    "--events",
    "--bind",
    "--directory",
    "--partition",
    "--upgrade",
    "--force-reinstall",
}  # of git, of Python's own file server, of Slurm, of a program of its own and of pip


def _texts(tree: ast.AST) -> Iterator[str]:
    """All texts of a module but docstrings, f-strings with their values as {}."""
    inside = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    bare = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield "".join(str(p.value) if isinstance(p, ast.Constant) else "{}" for p in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in inside | bare:
            yield node.value


def _advice() -> list[tuple[str, str, str]]:
    """Module, text and option, of texts with spaces in them."""
    found = []
    for path in sorted(SOURCE.rglob("*.py")):
        if path.name in ("options.py", "quickstart.py"):
            continue
        module = path.relative_to(SOURCE).as_posix()
        for text in _texts(ast.parse(path.read_text(encoding="utf-8"))):
            if " " in text:
                found += [(module, text, match[0]) for match in OPTION.finditer(text)]
    return [item for item in found if item[2] not in ELSEWHERE]


@cache
def _commands() -> dict[str, Any]:
    group = typer.main.get_command(app)
    commands = dict(group.commands)  # type: ignore[attr-defined]
    for name in ("data", "campaign"):
        commands |= {f"{name} {inner}": c for inner, c in commands.pop(name).commands.items()}
    return commands


@cache
def _options() -> dict[str, set[str]]:
    return {
        name: {option for parameter in c.params for option in (*parameter.opts, *parameter.secondary_opts)}
        for name, c in _commands().items()
    }


def _can_raise(module: str, text: str, option: str) -> tuple[str, ...]:
    """Commands that the advice is for: the one it names, or all that can raise it."""
    named = NAMED.search(text[: text.index(option)])
    if named and named[1] in _commands():
        return (named[1],)
    if module.startswith("cli/"):
        home = f"caloforge.{module.removesuffix('.py').replace('/', '.')}"
        own = [name for name, c in _commands().items() if c.callback and c.callback.__module__ == home]
        return tuple(name for name in own if option in _options()[name]) or tuple(own)
    rooms = [room for room in RAISED_BY if module == room or module.startswith(f"{room}/")]
    assert rooms, f"say which commands can raise {text!r} of {module}"
    return RAISED_BY[rooms[0]]


def test_advised_options_exist() -> None:
    options, advice = _options(), _advice()
    assert len(advice) > 40  # the walk finds them
    wrong = [
        f"{module}: {command} has no {option}: {text}"
        for module, text, option in advice
        for command in _can_raise(module, text, option)
        if option not in options[command]
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("command", READERS)
def test_commands_that_read_showers_open_files_as_they_are_told(command: str) -> None:
    assert {"--mesh", "--ignore", "--allow-external", "--allow-code"} <= _options()[command]


@pytest.mark.parametrize(
    "arguments",
    [
        ("evaluate", "FILE", "FILE", "-o", "out"),
        ("compare", "FILE", "FILE", "-o", "out"),
        ("train", "no-such-recipe", "FILE", "-o", "out"),
        ("adapt", "no-such-model", "--data", "FILE", "-o", "out"),
        ("amplify", "FILE", "FILE", "FILE", "-o", "out"),
    ],
)
def test_what_is_advised_helps(
    arguments: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with h5py.File("FILE", "w") as file:
        file["incident_energies"], file["showers"], file["noise"] = np.ones(3), np.ones((3, 368)), np.ones(5)
    errors = []
    for options in ([], ["--ignore", "noise"], []):
        result = CliRunner().invoke(app, [*arguments, *options])
        assert isinstance(result.exception, CaloforgeError), result.output
        errors.append(str(result.exception))
    assert errors[0] == errors[2]  # an option holds for one command
    assert "--ignore noise" in errors[0]
    assert "noise" not in errors[1]
