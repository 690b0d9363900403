"""Reports that several tests look at."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable

import pytest
from report_results import FULL, everything
from report_samples import MESHES, Sample, judged, make_showers

from caloforge.data import Showers
from caloforge.detector import Mesh


@pytest.fixture(params=list(MESHES))
def mesh(request: pytest.FixtureRequest) -> Mesh:
    return MESHES[request.param]


@pytest.fixture(scope="session")
def make() -> Callable[..., Showers]:
    def made(mesh: Mesh, n: int = 60, seed: int = 0) -> Showers:
        return make_showers(mesh, n, seed + 1)

    return made


@pytest.fixture(scope="session")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Sample]:
    """The report on a mesh of the kind asked for; each is written by the first process that wants it."""
    from caloforge.report import write_report

    made: dict[str, Sample] = {}
    base = tmp_path_factory.getbasetemp()
    shared = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "reports"
    shared.mkdir(exist_ok=True)

    def make(kind: str) -> Sample:
        if kind not in made:
            mesh = MESHES[kind]
            reference, generated = make_showers(mesh, 120, 1), make_showers(mesh, 100, 2, 1.05)
            evaluation = judged(reference, generated)
            if kind in FULL:
                evaluation = everything(evaluation)
            page = shared / kind / "report.html"
            with (shared / f"{kind}.lock").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                if not page.exists():
                    title = "Ours <i>& theirs"
                    write_report(evaluation, reference, generated, page.parent, title=title, progress=False)
            made[kind] = Sample(reference, generated, evaluation, page)
        return made[kind]

    return make
