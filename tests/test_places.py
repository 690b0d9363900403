"""Places that cannot be written, and what is no file: a clear error before any work, and nothing is lost."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import toy_models

from caloforge.data import Showers, open_showers, write_showers
from caloforge.runtime.locks import file_lock, folder_lock
from caloforge.training import train

EACH = """
import json, sys
from caloforge.cli.app import main
for words in json.loads(sys.argv[1]):
    sys.argv = ["caloforge", *words]
    try:
        main()
        status = 0
    except SystemExit as end:
        status = end.code or 0
    print(f"= {status}", file=sys.stderr, flush=True)
"""


def each(*commands: tuple[object, ...], cwd: Path, rights: bool = True) -> list[str]:
    """What each of several commands in one process says on standard error, and its status at the end.

    Without ``rights`` not even root may write where modes forbid it.
    """
    plain = json.dumps([[str(word) for word in command] for command in commands])
    lacking = [] if rights or os.geteuid() else ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]
    command = [*lacking, sys.executable, "-c", EACH, plain]
    done = subprocess.run(command, capture_output=True, text=True, cwd=cwd, timeout=300, check=False)
    assert "Traceback" not in done.stderr, done.stderr
    said: list[str] = [""]
    for line in done.stderr.splitlines():
        if line.startswith("note:"):
            continue
        said[-1] += line + " "
        if line.startswith("= "):
            said.append("")
    assert len(said) == len(commands) + 1, done.stderr
    return [" ".join(text.split()) for text in said[:-1]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("places")
    showers = toy_models.toy_showers(60)
    named = Showers(showers.energies, showers.conditions, showers.mesh)
    write_showers(named, folder / "showers.h5")
    train(toy_models.RECIPE, named, out=folder / "model", progress=False, overrides={"training.epochs": 1})
    (folder / "recipe.toml").write_text('model = "toy_models:LayerGaussian"\n[training]\nepochs = 1\n')
    return folder


def commands(folder: Path, out: object) -> dict[str, tuple[object, ...]]:
    """Every command that writes, by its name."""
    showers, model = folder / "showers.h5", folder / "model"
    return {
        "generate": ("generate", model, "--energy", "2GeV", "-n", 3, "-o", out),
        "simulate": ("simulate", "par04-siw", "-n", 1, "-o", out),
        "convert": ("data", "convert", showers, out),
        "merge": ("data", "merge", out, showers, showers),
        "bench": ("bench", model, "--no-geant4", "-o", out),
        "train": ("train", folder / "recipe.toml", showers, "-o", out, "--device", "cpu"),
        "adapt": ("adapt", model, "--data", showers, "-o", out, "--device", "cpu"),
        "evaluate": ("evaluate", showers, showers, "-o", out, "--classifiers", "none"),
        "compare": ("compare", showers, showers, "-o", out, "--classifiers", "none"),
        "amplify": ("amplify", showers, showers, showers, "-o", out),
        "quickstart": ("quickstart", out),
        "demo": ("demo", model, "-o", out),
    }


FILES = ("generate", "simulate", "convert", "merge", "bench")


def test_a_folder_that_may_not_be_written(folder: Path, tmp_path: Path) -> None:
    if os.geteuid() == 0 and shutil.which("setpriv") is None:
        pytest.skip("root may write everywhere, and there is no setpriv")
    (tmp_path / "closed").mkdir(mode=0o555)
    wanted = commands(folder, tmp_path / "closed" / "out")
    download = ("data", "download", "SiW_angle_50.h5", "--folder", tmp_path / "closed")
    for words in each(*wanted.values(), download, cwd=tmp_path, rights=False):
        assert words.startswith("error: cannot write")
        assert words.endswith("Permission denied = 1")
    assert list((tmp_path / "closed").iterdir()) == []


def test_names_that_cannot_be_written(folder: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "file").write_text("mine")
    no_file = {
        "": "is a folder; give the name of a file",
        ".": "is a folder",
        "n" * 256: "File name too long",
    }
    no_file["pipe"] = "it is a device or the like, not a file"
    no_folder = {"": "the name of the folder is empty", "file": "file is a file", "n" * 256: "too long"}
    wanted = {
        (*commands(folder, out)[name], "--overwrite"): no_file[out] for out in no_file for name in FILES
    }
    wanted |= {command: no_folder[out] for out in no_folder for command in _of_folders(folder, out).values()}
    for words, message in zip(each(*wanted, cwd=tmp_path), wanted.values(), strict=True):
        assert message in words
        assert words.endswith(" = 2" if "empty" in message else " = 1")
    assert (tmp_path / "pipe").is_fifo()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "pipe"]
    assert (tmp_path / "file").read_text() == "mine"


def test_what_another_process_writes(folder: Path, tmp_path: Path) -> None:
    file, out = tmp_path / "a.h5", tmp_path / "out"
    wanted = [
        (*command, "--overwrite") if name != "quickstart" else command
        for name, command in (commands(folder, file) | _of_folders(folder, out)).items()
    ]
    with folder_lock(out), file_lock(file), folder_lock(tmp_path / "a.h5.parts"):
        for words in each(*wanted, cwd=tmp_path):
            assert "another process" in words
            assert f"({os.getpid()} on " in words
            assert words.endswith("= 1")
    assert [path.name for path in tmp_path.iterdir()] == []


def _of_folders(folder: Path, out: object) -> dict[str, tuple[object, ...]]:
    return {name: command for name, command in commands(folder, out).items() if name not in FILES}


@pytest.mark.slow
def test_links_are_followed(folder: Path, tmp_path: Path) -> None:
    for name in ("generate", "convert"):
        (tmp_path / "elsewhere.h5").write_text("old")
        (tmp_path / "link.h5").unlink(missing_ok=True)
        (tmp_path / "link.h5").symlink_to("elsewhere.h5")
        command = commands(folder, "link.h5")[name]
        refused, done = each(command, (*command, "--overwrite"), cwd=tmp_path)
        assert "exists; choose another name" in refused
        assert done.endswith("= 0")
        assert (tmp_path / "link.h5").is_symlink()
        assert len(open_showers(tmp_path / "elsewhere.h5")) in (3, 60)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["elsewhere.h5", "link.h5"]


def test_what_is_there_of_somebody_else_stays(folder: Path, tmp_path: Path) -> None:
    """Folders with names as ours have them, and in them files of the user's."""
    theirs = [
        tmp_path / name
        for name in ("a.h5.parts/notes.txt", "m/resume/notes.txt", "m/log.jsonl", "w/model.safetensors")
    ]
    for path in theirs:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("mine")
    said = each(
        (*commands(folder, "a.h5")["generate"], "--overwrite"),
        (*commands(folder, "a.h5")["simulate"], "--overwrite"),
        commands(folder, "m")["train"],
        (*commands(folder, "m")["train"], "--resume"),
        commands(folder, "w")["train"],
        cwd=tmp_path,
    )
    for words in said[:2]:
        assert "a.h5.parts holds other files (notes.txt)" in words
    assert all("m holds another log.jsonl" in words for words in said[2:4])
    assert "w holds another model.safetensors" in said[4]
    assert all(words.endswith("= 1") for words in said)
    assert all(path.read_text() == "mine" for path in theirs)
