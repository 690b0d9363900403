"""Real models and servers of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from caloforge.checkpoint import Checkpoint
from caloforge.fast.maker import ShowerMaker


@pytest.fixture(scope="session")
def siw() -> ShowerMaker:
    return ShowerMaker(Checkpoint.load("showertree-siw"), "cpu")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A short name for a socket, whatever the temporary folder of the tests is called."""
    monkeypatch.chdir(tmp_path)
    return Path("s")
