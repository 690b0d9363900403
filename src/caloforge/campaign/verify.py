"""What there is of a campaign: a look by names and sizes, and the proof that it is complete."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from caloforge.campaign.campaign import Campaign, Seal
from caloforge.campaign.record import Record
from caloforge.campaign.work import Product
from caloforge.errors import DataError
from caloforge.runtime.shards import Shard

__all__ = ["STATES", "Problem", "merged_differs", "shard_states", "told_of", "verify_campaign"]

STATES = {
    "finished": "sealed with a checksum",
    "whole": "not sealed yet, which run does",
    "begun": "some showers are kept",
    "missing": "nothing is there",
}
"""States of shards, by names and sizes of files alone."""
MOST_SHOWN = 10


@dataclass(frozen=True)
class Problem:
    """What is wrong with a shard or file.

    Attributes:
        kind: "missing", "unfinished", "damaged", "doubled" or "foreign".
        what: which, in words.
        why: how it is known, and what to do.
    """

    kind: str
    what: str
    why: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.what}: {self.why}"


def shard_states(campaign: Campaign) -> dict[str, int]:
    """How many shards are in each of the `STATES`."""
    record, counts = campaign.begun(), dict.fromkeys(STATES, 0)
    for shard in campaign:
        counts[_state(campaign, shard, record)] += 1
    return counts


def _state(campaign: Campaign, shard: Shard, record: Record | None) -> str:
    path = campaign.file(shard)
    if record is not None and campaign.is_finished(shard, record):
        return "finished"
    if path.is_file():
        return "whole"
    return "begun" if path.with_name(f"{path.name}.parts").is_dir() else "missing"


def verify_campaign(campaign: Campaign, progress: Callable[[int, int], None] | None = None) -> list[Problem]:
    """All that keeps a campaign from being complete; nothing where every shower is there, once, and whole.

    Every file is read once for its checksum; what it holds is compared with what the campaign asks for.

    Raises:
        DataError: the folder is another campaign's, or none has begun there.
    """
    record = campaign.begun()
    if record is None:
        raise DataError(
            f"nothing of {campaign.path} has begun in {campaign.folder}; caloforge campaign run begins"
        )
    problems: list[Problem] = []
    for shard in campaign:
        problem = _problem(campaign, shard, record)
        if problem is not None:
            problems.append(problem)
        if progress is not None:
            progress(shard.number, campaign.shards)
    problems += [
        Problem("foreign", str(path), "it is called as shards are, and is none of them; move it elsewhere")
        for path in campaign.strangers()
    ]
    return problems


def _problem(campaign: Campaign, shard: Shard, record: Record) -> Problem | None:
    path, state = campaign.file(shard), _state(campaign, shard, None)
    start, stop = shard.span(campaign.n)
    what = f"shard {shard}, {campaign.work.what} {start} to {stop - 1}"
    if state != "whole":
        kind = "unfinished" if state == "begun" else "missing"
        return Problem(kind, what, f"{path} is not there; caloforge campaign run makes it")
    anew = "delete it and its seal, and caloforge campaign run makes it anew"
    try:
        seal = Seal.read(campaign.seal(shard))
        if seal is None:
            return Problem("unfinished", what, f"{path} is not sealed; caloforge campaign run does that")
        showers = campaign.work.opened(path)
        if problem := _misplaced(campaign, showers, shard, record, path):
            return problem
        if seal.campaign != record.mark or seal.shard != str(shard):
            return Problem("foreign", str(path), f"its seal is that of something else; {anew}")
        if seal != Seal.of(path, shard, record):
            return Problem("damaged", what, f"{path} is not what it was when it was sealed; {anew}")
    except DataError as error:
        return Problem("damaged", what, f"{error}; {anew}")
    return None


def _misplaced(
    campaign: Campaign, showers: Product, shard: Shard, record: Record, path: Path
) -> Problem | None:
    """The problem of a file that is not this shard: another one of the campaign, or none of it."""
    found = campaign.differs(showers, shard, record)
    if not found:
        return None
    start, stop = shard.span(campaign.n)
    lost = f"so that the {campaign.work.what} {start} to {stop - 1} are missing"
    for other in _candidates(campaign, showers):
        if not campaign.differs(showers, other, record):
            return Problem("doubled", str(path), f"it is shard {other} under another name, {lost}")
    return Problem("foreign", str(path), f"{found}, {lost}; move it elsewhere")


def _candidates(campaign: Campaign, showers: Product) -> Iterator[Shard]:
    """Shards that showers may be, by the number of the first one."""
    try:
        first, _ = campaign.work.numbers(showers.provenance)
    except (KeyError, TypeError, ValueError):
        return
    number = first * campaign.shards // campaign.n
    for guess in (number, number + 1, number + 2):
        if 1 <= guess <= campaign.shards:
            yield Shard(guess, campaign.shards)


def told_of(problems: list[Problem]) -> str:
    """Problems in words: how many of each kind, and the first ones of each."""
    lines = []
    for kind in dict.fromkeys(problem.kind for problem in problems):
        same = [problem for problem in problems if problem.kind == kind]
        lines += [str(problem) for problem in same[:MOST_SHOWN]]
        if len(same) > MOST_SHOWN:
            lines.append(f"{kind}: {len(same) - MOST_SHOWN} more")
    return "\n".join(lines)


def merged_differs(
    campaign: Campaign, merged: Product, progress: Callable[[int, int], None] | None = None
) -> str:
    """In what a merged file differs from the shards in their order, in words; "" where it does not."""
    work = campaign.work
    if len(merged) != campaign.n:
        return f"it has {len(merged):,} {work.what}, and the campaign {campaign.n:,}"
    for shard in campaign:
        start, stop = shard.span(campaign.n)
        if not work.equal(merged[start:stop], work.opened(campaign.file(shard))):
            return f"the {work.what} {start} to {stop - 1} are not those of shard {shard}: the order is wrong"
        if progress is not None:
            progress(shard.number, campaign.shards)
    return ""
