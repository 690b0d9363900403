"""Small models that tests share are in ``tests/shared``, also for the processes that tests start."""

import os
from pathlib import Path

import pytest

SHARED = Path(__file__).parent / "shared"


@pytest.fixture(autouse=True, scope="session")
def _shared_modules():
    paths = [str(SHARED), *filter(None, [os.environ.get("PYTHONPATH")])]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(paths))
        patch.setenv("CALOFORGE_ALLOW_CODE", "toy_models,joint_models,toy_pixels")
        yield
