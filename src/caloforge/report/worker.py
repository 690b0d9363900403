"""Pages of histograms drawn by a second process, because drawing them is most of a report's time.

``python -m caloforge.report.worker FD`` reads a job from standard input and answers with the drawings on the
pipe ``FD``. A process of its own, and not `multiprocessing`, so that scripts without a ``__main__`` guard
work too.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Self

from caloforge.evaluation.results import Histogram
from caloforge.report.figures.histograms import draw_layer_pages
from caloforge.report.figures.sheet import Drawing
from caloforge.report.words.text import group_title

__all__ = ["GroupPages"]

WORTH_A_PROCESS = 120
"""Panels from which a second process saves more time than it costs to start."""
AWAY = 0.8
"""Share of the panels given to it; the first process has everything else to draw meanwhile."""

Groups = Mapping[str, Sequence[Histogram]]


class GroupPages:
    """Pages of histograms, group by group; a second process begins with some of them at once.

    Used as a context, so that the process ends whatever happens; `finish` draws the rest and collects.
    """

    def __init__(self, groups: Groups, folder: Path, processes: int | None = None) -> None:
        """``processes`` is 1 or 2; by default 2 where there are two cores and panels enough."""
        if processes is None:
            panels = sum(len(part) for part in groups.values())
            enough = panels >= WORTH_A_PROCESS and len(groups) > 1
            processes = 2 if enough and (os.cpu_count() or 1) > 1 else 1
        self._groups, self._folder = groups, folder.resolve()
        self._away = _share(groups) if processes > 1 else []
        self._answer: BinaryIO | None = None
        self.helper: subprocess.Popen[bytes] | None = None
        if self._away:
            self._start({name: groups[name] for name in self._away})

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.helper is not None:
            self.helper.kill()
            self.helper.wait()
        if self._answer is not None:
            self._answer.close()

    def finish(self, done: Callable[[str], None] = lambda group: None) -> dict[str, list[Drawing]]:
        """All pages in the order of the groups; ``done`` is called with each group that is finished."""
        pages: dict[str, list[Drawing]] = {}
        for name in self._groups:
            if name not in self._away:
                pages[name] = _draw(name, self._groups[name], self._folder)
                done(name)
        if self.helper is not None and self._answer is not None:
            answer = self._answer.read()
            if self.helper.wait() == 0:
                pages |= pickle.loads(answer)
        for name in self._away:
            if name not in pages:  # the helper could not be started or failed; its error will show here
                pages[name] = _draw(name, self._groups[name], self._folder)
            done(name)
        return {name: pages[name] for name in self._groups}

    def _start(self, groups: Groups) -> None:
        read, write = os.pipe()
        self._answer = os.fdopen(read, "rb")
        try:
            self.helper = subprocess.Popen(
                [sys.executable, "-P", "-m", __name__, str(write)],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=[write],
                env=os.environ | {"MPLBACKEND": "agg"},
            )
            assert self.helper.stdin is not None
            with self.helper.stdin as job:
                pickle.dump((dict(groups), self._folder), job)
        except OSError:
            pass  # it did not start, or ended before it read the job; `finish` draws what is missing
        finally:
            os.close(write)


def _share(groups: Groups) -> list[str]:
    """Names of groups that make up at most `AWAY` of the panels."""
    away: list[str] = []
    sizes = {name: len(part) for name, part in groups.items()}
    for name in sorted(sizes, key=lambda n: sizes[n]):
        if sum(sizes[n] for n in away) + sizes[name] <= AWAY * sum(sizes.values()):
            away.append(name)
    return away


def _draw(name: str, histograms: Sequence[Histogram], folder: Path) -> list[Drawing]:
    return draw_layer_pages(name, group_title(name), histograms, folder)


def main() -> None:
    """Draw the groups of the job on standard input."""
    job: tuple[dict[str, Any], Path] = pickle.load(sys.stdin.buffer)
    groups, folder = job
    pages = {name: _draw(name, part, folder) for name, part in groups.items()}
    with os.fdopen(int(sys.argv[1]), "wb") as answer:
        pickle.dump(pages, answer)


if __name__ == "__main__":
    main()
