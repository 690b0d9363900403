"""Pages of histograms drawn by a second process, because drawing them is most of a report's time.

``python -m caloforge.report.worker`` reads a job as JSON from standard input and answers with the drawings.
A process of its own, and not `multiprocessing`, so that scripts without a ``__main__`` guard work too.
"""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np

from caloforge.evaluation import Histogram
from caloforge.evaluation.results import from_plain
from caloforge.report.histograms import draw_layer_pages
from caloforge.report.style import Drawing
from caloforge.runtime.cores import usable_cores

__all__ = ["GroupPages"]

WORTH_A_PROCESS = 120
"""Panels from which a second process saves more time than it costs to start."""
AWAY = 0.8
"""Share of the panels given to it; the first process has everything else to draw meanwhile."""


class GroupPages:
    """Pages of histograms, group by group; a second process begins with some of them at once.

    Used as a context, so that the process ends whatever happens; `finish` draws the rest and collects.
    """

    def __init__(
        self,
        groups: Mapping[str, Sequence[Histogram]],
        titles: Mapping[str, str],
        folder: Path,
        processes: int | None = None,
    ) -> None:
        """``processes`` is 1 or 2; by default 2 where there are two cores and panels enough."""
        if processes is None:
            panels = sum(len(part) for part in groups.values())
            enough = panels >= WORTH_A_PROCESS and len(groups) > 1
            processes = 2 if enough and usable_cores() > 1 else 1
        self._groups, self._titles, self._folder = groups, titles, folder
        self._away = _share(groups) if processes > 1 else []
        self._helper = (
            _start({name: groups[name] for name in self._away}, titles, folder) if self._away else None
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._helper is None:
            return
        if self._helper.poll() is None:
            self._helper.kill()
            self._helper.wait()
        if self._helper.stdout is not None:
            self._helper.stdout.close()

    def finish(self, done: Callable[[str], None] = lambda group: None) -> dict[str, list[Drawing]]:
        """All pages in the order of the groups; ``done`` is told each group as it is finished."""
        pages: dict[str, list[Drawing]] = {}
        for name in self._groups:
            if name not in self._away:
                pages[name] = self._draw(name)
                done(name)
        if self._helper is not None:
            pages |= _answer(self._helper, self._folder)
        for name in self._away:
            if name not in pages:  # the helper could not be started or failed; its error will show here
                pages[name] = self._draw(name)
            done(name)
        return {name: pages[name] for name in self._groups}

    def _draw(self, name: str) -> list[Drawing]:
        return draw_layer_pages(name, self._titles[name], self._groups[name], self._folder)


def _share(groups: Mapping[str, Sequence[Histogram]]) -> list[str]:
    """Names of groups that make up at most `AWAY` of the panels."""
    away: list[str] = []
    sizes = {name: len(part) for name, part in groups.items()}
    for name in sorted(sizes, key=lambda n: sizes[n]):
        if sum(sizes[n] for n in away) + sizes[name] <= AWAY * sum(sizes.values()):
            away.append(name)
    return away


def _start(
    groups: Mapping[str, Sequence[Histogram]], titles: Mapping[str, str], folder: Path
) -> subprocess.Popen[str] | None:
    job = {
        "folder": str(folder.resolve()),
        "groups": [
            {"name": name, "title": titles[name], "histograms": [dataclasses.asdict(h) for h in part]}
            for name, part in groups.items()
        ],
    }
    try:
        helper = subprocess.Popen(
            [sys.executable, "-m", __name__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
    except OSError:
        return None
    assert helper.stdin is not None
    try:
        json.dump(job, helper.stdin, default=_plain)
        helper.stdin.close()
    except OSError:
        pass  # it ended before it read the job; `_answer` finds out
    return helper


def _answer(helper: subprocess.Popen[str], folder: Path) -> dict[str, list[Drawing]]:
    assert helper.stdout is not None
    with helper.stdout:
        text = helper.stdout.read()
    if helper.wait() != 0:
        return {}
    answer: dict[str, list[dict[str, Any]]] = json.loads(text)
    return {
        name: [Drawing(**drawing | {"folder": folder}) for drawing in drawings]
        for name, drawings in answer.items()
    }


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} is not JSON")


def main() -> None:
    """Draw the groups of the job on standard input."""
    job = json.load(sys.stdin)
    folder = Path(job["folder"])
    answer = {}
    for group in job["groups"]:
        histograms = [from_plain(Histogram, plain) for plain in group["histograms"]]
        drawings = draw_layer_pages(group["name"], group["title"], histograms, folder)
        answer[group["name"]] = [dataclasses.asdict(d) | {"folder": ""} for d in drawings]
    json.dump(answer, sys.stdout)


if __name__ == "__main__":
    main()
