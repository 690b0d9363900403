import pytest
import torch
from toy_models import RECIPE, toy_showers

from caloforge.training import train


@pytest.fixture(autouse=True, scope="session")
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory):
    """A toy model trained for a moment, on disk."""
    return train(RECIPE, toy_showers(), out=tmp_path_factory.mktemp("toy") / "model", progress=False)
