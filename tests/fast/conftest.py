"""Real models and servers of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from caloforge.checkpoint import Checkpoint
from caloforge.fast.maker import ShowerMaker
from caloforge.runtime.devices import cpu_threads


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    """As in the server, whose showers are compared to the last bit."""
    with cpu_threads(1):
        yield


@pytest.fixture(scope="session")
def siw() -> ShowerMaker:
    return ShowerMaker(Checkpoint.load("showertree-siw"), "cpu")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A short name for a socket, whatever the temporary folder of the tests is called."""
    monkeypatch.chdir(tmp_path)
    return Path("s")
