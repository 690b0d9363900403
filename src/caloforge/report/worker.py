"""Pages of histograms drawn by a second process, because drawing them is most of a report's time."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, Self

from caloforge.evaluation.results import Histogram
from caloforge.report.figures.histograms import draw_layer_pages
from caloforge.report.figures.sheet import Drawing
from caloforge.report.words.text import group_title
from caloforge.runtime.cores import usable_cores
from caloforge.runtime.processes import Channel, Child, ChildError, serve

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
            processes = 2 if enough and usable_cores() > 1 else 1
        self._groups, self._folder = groups, folder
        self._away = _share(groups) if processes > 1 else []
        self._child: Child | None = None
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        if self._away:
            groups = {name: [h.to_dict() for h in self._groups[name]] for name in self._away}
            with suppress(OSError, ChildError):  # `finish` draws what the child does not
                child = self._stack.enter_context(Child(__name__, environment={"MPLBACKEND": "agg"}))
                child.send({"folder": str(self._folder.resolve()), "groups": groups})
                self._child = child
        return self

    def __exit__(self, *error: Any) -> None:
        self._stack.__exit__(*error)

    def finish(self, done: Callable[[str], None] = lambda group: None) -> dict[str, list[Drawing]]:
        """All pages in the order of the groups; ``done`` is called with each group that is finished."""
        pages: dict[str, list[Drawing]] = {}
        here = [name for name in self._groups if self._child is None or name not in self._away]
        for name in here:
            pages[name] = _draw(name, self._groups[name], self._folder)
            done(name)
        if self._child is not None:
            with suppress(ChildError):
                while len(pages) < len(self._groups):
                    for answer in self._child.receive():
                        drawings = [drawing | {"folder": self._folder} for drawing in answer["drawings"]]
                        pages[answer["group"]] = [Drawing(**drawing) for drawing in drawings]
                        done(answer["group"])
        for name in self._groups:
            if name not in pages:  # the child failed; its error will show here
                pages[name] = _draw(name, self._groups[name], self._folder)
                done(name)
        return {name: pages[name] for name in self._groups}


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


def _work(channel: Channel) -> None:
    """Draw the groups of the one job on the channel, and answer with each."""
    for job in channel:
        for name, part in job["groups"].items():
            drawings = _draw(name, [Histogram.from_dict(plain) for plain in part], Path(job["folder"]))
            plain = [dataclasses.asdict(drawing) | {"folder": ""} for drawing in drawings]
            channel.send({"group": name, "drawings": plain})


if __name__ == "__main__":
    raise SystemExit(serve(_work))
