import pytest
from toy_models import RECIPE, toy_showers

from caloforge.training import train


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory):
    """A toy model trained for a moment, on disk."""
    return train(RECIPE, toy_showers(), out=tmp_path_factory.mktemp("toy") / "model", progress=False)
