"""Small models that tests share are in ``tests/shared``, also for the processes that tests start."""

import logging
import os
import signal
from pathlib import Path

import pytest

from caloforge.runtime.cores import wait_passively

SHARED = Path(__file__).parent / "shared"
FIRST = (
    "test_quickstart.py",
    "test_browser.py",
    "test_bench.py",
    "test_several_processes.py",
    "test_laws.py",
    "test_readme.py",
    "test_feature_shards.py",
    "test_cli.py",
    "test_report_files.py",
    "test_compare_page.py",
)
"""What takes longest begins first, not to be left to one process at the end."""
for number, usual in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
    if signal.getsignal(number) is signal.SIG_IGN:  # under nohup, or in the background of a script
        signal.signal(number, usual)
wait_passively()  # as the command does, before torch is loaded: several processes of tests share the cores


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: FIRST.index(item.path.name) if item.path.name in FIRST else len(FIRST))


@pytest.fixture(autouse=True, scope="session")
def _shared_modules():
    paths = [str(SHARED), *filter(None, [os.environ.get("PYTHONPATH")])]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(paths))
        patch.setenv("CALOFORGE_ALLOW_CODE", "toy_models,joint_models,toy_pixels")
        yield


@pytest.fixture(autouse=True, scope="session")
def _one_thread():
    """Tiny models are fastest, and results comparable to the last bit, on one thread."""
    from caloforge.runtime.devices import cpu_threads

    with cpu_threads(1):
        yield


@pytest.fixture(autouse=True)
def _own_log():
    """Commands show the log, and later tests in this process shall not."""
    log = logging.getLogger("caloforge")
    handlers, level = list(log.handlers), log.level
    yield
    log.handlers[:], log.level = handlers, level
