"""Geant4 tests write the reduced data into a cache of their own and skip without the binding."""

import importlib.util
import os

import pytest

MISSING = [name for name in ("geant4_pybind", "xraylib") if importlib.util.find_spec(name) is None]


def pytest_ignore_collect(collection_path, config):
    return True if MISSING else None


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory):
    """A fresh cache folder, and no official data even where the user has them."""
    folder = tmp_path_factory.mktemp("cache")
    saved = {name: os.environ.get(name) for name in ("XDG_CACHE_HOME", "GEANT4_DATA_DIR", "HOME")}
    os.environ.update(XDG_CACHE_HOME=str(folder), HOME=str(folder))
    os.environ.pop("GEANT4_DATA_DIR", None)
    yield folder
    for name, value in saved.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
