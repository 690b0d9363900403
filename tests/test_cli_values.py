"""Every option of every command with values that it cannot have: one message, no traceback, nothing made."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from toy_models import MESH, LayerGaussian, toy_showers
from typer.testing import CliRunner

import caloforge
from caloforge.checkpoint import Checkpoint
from caloforge.cli import app
from caloforge.data import write_showers
from caloforge.errors import CaloforgeError

ROOT = str(Path(caloforge.__file__).parents[1])
HUGE = "9" * 30
LONG = "a" * 300
DEEP = "[" * 400 + "]" * 400
NUMBERS = ["", "x", "-1", "nan", "inf", "1e400", HUGE, "\x1b[2J", "[/b]"]
TEXTS = ["x", "-1", "nan", HUGE, "\x1b[2J", "[/b]", "1,,2", "="]
OPTIONS: dict[str, list[str]] = {
    "-n": ["0", *NUMBERS],
    "--first": NUMBERS,
    "--seed": [value for value in NUMBERS if value != "0"],
    "--threads": ["0", *NUMBERS],
    "--workers": ["0", *(value for value in NUMBERS if value != HUGE)],
    "--batch-size": ["0", *(value for value in NUMBERS if value != HUGE)],
    "--copies": ["0", *NUMBERS],
    "--steps": ["0", *NUMBERS],
    "--compression": ["10", *NUMBERS],
    "--repetitions": ["0", *(value for value in NUMBERS if value != HUGE)],
    "--budget": ["0", "", "x", "-1", "nan", "inf"],
    "--geant4": NUMBERS,
    "--threshold": ["", "x", "-1", "nan", "inf"],
    "--energy": ["", "10", "0GeV", "-1GeV", "3-1GeV", "infGeV", "1e400GeV", "1GeV,,2GeV", *TEXTS],
    "--theta": ["90", "2-1rad", *TEXTS],
    "--phi": ["90", "2-1rad", *TEXTS],
    "--impact": ["1mm", "1,2", *TEXTS],
    "--spectrum": TEXTS,
    "--device": TEXTS,
    "--devices": TEXTS,
    "--precision": TEXTS,
    "--kernels": TEXTS,
    "--set": [
        "",
        "x",
        "a.b=1",
        "=1",
        "training.epochs=NaN",
        "sampler.steps=1e400",
        "x=" + "[" * 400 + "]" * 400,
    ],
    "--detector": [LONG, "../x", *TEXTS],
    "--particle": TEXTS,
    "--shard": ["", "0/2", "3/2", "1/2/3", *TEXTS],
    "--share": ["", "0/2", "3/2", "1/2/3", *TEXTS],
    "--retries": [value for value in NUMBERS if value != HUGE],
    "--like": [LONG, "/dev/zero", ".", *TEXTS],
    "--teacher": [LONG, ".", *TEXTS],
    "--given": [LONG, "/dev/zero", ".", *TEXTS],
    "--parts": ["", "0", *TEXTS, "inf", "0.5,nan"],
    "--names": ["a", "a,a", "a/b,c", ",", LONG],
    "--coarsen": ["", "0,1,1", "1,1", "-1,1,1", f"{HUGE},1,1", *TEXTS],
    "--layout": TEXTS,
    "--mesh": [LONG, "/dev/zero", ".", "x.xml", *TEXTS],
    "--slice": ["energy=0", "energy=-1", "energy=nan", "energy=1,nan", f"energy={HUGE}", *TEXTS],
    "--classifiers": TEXTS,
    "--which": TEXTS,
    "--multiclass": TEXTS,
    "--batches": ["", "0", ",", "1,0", *(value for value in TEXTS if value != "1,,2")],
    "--quantiles": ["", "0", "1", *TEXTS],
    "--observables": TEXTS,
    "--upsampled": [f"0={LONG}", *TEXTS],
    "--training": [LONG, "/dev/zero", ".", *TEXTS],
    "--second-reference": [LONG, "/dev/zero", ".", *TEXTS],
    "--allow-code": ["a-b", "", "x/y"],
    "--fast": [LONG, ".", "/dev/zero", *TEXTS],
    "--fast-above": ["1GeV", *TEXTS],
    "--socket": [LONG, ".", "/dev/zero", "/no/such/folder/socket"],
    "--runtime": [LONG, ".", "/dev/zero", *TEXTS],
    "--showers": ["0", *NUMBERS],
    "--truth": [LONG, "/dev/zero", ".", *TEXTS],
    "--memory": ["0", "", "x", "-1", "nan"],
}


def leaves(command: Any, words: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """All commands that do something."""
    if hasattr(command, "commands"):
        for name, inner in command.commands.items():
            yield from leaves(inner, (*words, name))
    else:
        yield words, command


COMMANDS = dict(leaves(typer.main.get_command(app)))


MADE = "{made}"
"""In the arguments: what a command would make."""


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """Arguments with which each command would run."""
    folder = tmp_path_factory.mktemp("values")
    showers, model = str(folder / "showers.h5"), str(folder / "model")
    sample = toy_showers(30)
    write_showers(sample, showers)
    trained = LayerGaussian(MESH)
    trained.fit(sample)
    trained.detectors = ("toy",)
    Checkpoint.from_model(trained, "toy_models:LayerGaussian", sample.conditions.ranges()).save(model)
    out, campaign = ["-o", MADE], folder / "campaign.toml"
    asked = f'[generate]\nmodel = "{model}"\nenergy = "10GeV"'
    campaign.write_text(f'n = 2\nshard_size = 1\nout = "made/{{shard}}.h5"\n{asked}')
    return {
        "simulate": ["par04-siw", "-n", "1", *out],
        "train": ["layer-flow", showers, *out],
        "generate": [model, "--energy", "10GeV", *out],
        "adapt": [model, "--data", showers, *out],
        "upsample": [model, showers, *out],
        "evaluate": [showers, showers, *out],
        "compare": [showers, f"a={showers}", f"b={showers}", *out],
        "bench": [model, "--energy", "10GeV", *out],
        "amplify": [showers, showers, showers, *out],
        "quickstart": [MADE],
        "export": ["pxd-clusters", *out],
        "demo": [model, *out],
        "serve": [model, "--socket", MADE],
        "data info": [showers],
        "campaign merge": [str(campaign), MADE],
        "campaign submit": [str(campaign), "--slurm", "--dry-run"],
        **{f"campaign {name}": [str(campaign)] for name in ("plan", "run", "status", "verify")},
        "data convert": [showers, MADE],
        "data split": [showers, "--folder", MADE],
        "data merge": [MADE, showers, showers],
    }


def options_of(words: tuple[str, ...]) -> list[str]:
    """Names of the options with values that a command has."""
    parameters = [p for p in COMMANDS[words].params if p.param_type_name == "option" and not p.is_flag]
    return [max(parameter.opts, key=len) for parameter in parameters]


def values_of(option: str, words: tuple[str, ...]) -> list[str]:
    """Values that an option of a command cannot have."""
    if option == "--threads" and words == ("bench",):
        return [value for value in OPTIONS[option] if value]  # none at all are told by another error
    return OPTIONS.get(option, [])


def refuse(words: tuple[str, ...], base: dict[str, list[str]], option: str, value: str, made: Path) -> None:
    """One message, and nothing is made."""
    arguments = [str(made) if argument == MADE else argument for argument in base[" ".join(words)]]
    asked = f"{' '.join(words)} {option} {value[:40]!r}"
    result = CliRunner().invoke(app, [*words, *arguments, option, value])
    error = result.exception
    assert error is not None, f"{asked} was not refused: {result.output}"
    assert isinstance(error, CaloforgeError | SystemExit), f"{asked}: {error!r}"
    assert str(error) not in ("", "0"), asked
    assert not list(made.parent.iterdir()), asked


CASES = [
    (words, option)
    for words in COMMANDS
    if words not in {("detectors",), ("recipes",), ("models",), ("data", "download")}
    for option in options_of(words)
    if option in OPTIONS
]


@pytest.mark.parametrize(("words", "option"), CASES, ids=[" ".join((*w, o)) for w, o in CASES])
def test_a_wrong_value_is_one_message(
    words: tuple[str, ...], option: str, base: dict[str, list[str]], tmp_path: Path
) -> None:
    values = values_of(option, words)
    value = values[(len(words[-1]) + len(option)) % len(values)]
    refuse(words, base, option, value, tmp_path / "made")


@pytest.mark.slow
@pytest.mark.parametrize(("words", "option"), CASES, ids=[" ".join((*w, o)) for w, o in CASES])
def test_all_wrong_values_are_one_message(
    words: tuple[str, ...], option: str, base: dict[str, list[str]], tmp_path: Path
) -> None:
    for value in values_of(option, words):
        refuse(words, base, option, value, tmp_path / "made")


def test_unknown_options_and_missing_arguments() -> None:
    for words in COMMANDS:
        result = CliRunner().invoke(app, [*words, "--no-such-option"])
        assert result.exit_code == 2, words
        assert "no-such-option" in result.output + getattr(result, "stderr", "")


def test_help_fits_a_plain_terminal() -> None:
    """Eighty columns, no colours, and characters that a plain encoding lacks are no end."""
    code = "\n".join([
        "import sys",
        "from caloforge.cli import app, main",
        "import caloforge.cli.app as module",
        f"for words in {[list(words) for words in COMMANDS]!r}:",
        "    sys.argv = ['caloforge', *words, '--help']",
        "    try:",
        "        main()",
        "    except SystemExit as end:",
        "        assert not end.code, words",
    ])  # fmt: skip
    variables = os.environ | {"COLUMNS": "80", "TERM": "dumb", "PYTHONIOENCODING": "ascii"}
    variables["PYTHONPATH"] = os.pathsep.join([ROOT, os.environ["PYTHONPATH"]])
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=variables)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Usage") == len(COMMANDS)
    assert "\x1b" not in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80
