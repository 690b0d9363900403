"""One file of all shards of a campaign: copied in order, or an HDF5 file that says where they are."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import h5py

from caloforge.campaign.campaign import Campaign
from caloforge.campaign.showers import OfShowers
from caloforge.campaign.verify import merged_differs, told_of, verify_campaign
from caloforge.campaign.work import Product
from caloforge.data.showers import Showers
from caloforge.data.writer import ShowerWriter
from caloforge.errors import DataError
from caloforge.runtime.files import output_file
from caloforge.runtime.provenance import provenance
from caloforge.runtime.streams import MOST_SHOWERS

__all__ = ["merge_campaign"]

MARK = "campaign_mark"
"""In the provenance of a merged file: of which campaign it is."""


class _VirtualWriter(ShowerWriter):
    """Writes data sets whose values are in other files, by paths from the folder of this one."""

    def link(self, paths: Sequence[Path], rows: Sequence[int]) -> None:
        """Make all data sets that the first of the files has, of the rows of all of them."""
        file, total = self._opened(), sum(rows)
        with h5py.File(paths[0], "r") as first:
            columns = {name: (stored.shape[1:], stored.dtype) for name, stored in first.items()}
        for path in paths[1:]:  # a text is as long as the longest of its file
            with h5py.File(path, "r") as other:
                for name, (shape, dtype) in columns.items():
                    if other[name].dtype.itemsize > dtype.itemsize:
                        columns[name] = shape, other[name].dtype
        for name, (shape, dtype) in columns.items():
            layout, at = h5py.VirtualLayout((total, *shape), dtype), 0
            for path, n in zip(paths, rows, strict=True):
                place = os.path.relpath(path.resolve(), self.path.resolve().parent)
                layout[at : at + n] = h5py.VirtualSource(place, name, (n, *shape), dtype)
                at += n
            file.create_virtual_dataset(name, layout)
        self.n_written = total


def merge_campaign(
    campaign: Campaign,
    out: str | os.PathLike[str],
    *,
    virtual: bool = False,
    overwrite: bool = False,
    progress: Callable[[str, int, int], None] | None = None,
) -> Product:
    """Make one file of a complete campaign, streaming; one that is there already is compared and left.

    Args:
        campaign: whose shards to merge, after `verify_campaign` finds nothing.
        out: the file.
        virtual: copy nothing; the file reads from the shards, which have to stay, and is opened with
            ``allow_external=True``.
        overwrite: replace another file.
        progress: hears what is done, how far that is, and of how much.

    Raises:
        DataError: the campaign is not complete, or ``out`` exists and is something else.
    """

    def show(what: str) -> Callable[[int, int], None]:
        return lambda done, total: None if progress is None else progress(what, done, total)

    target, record, work = output_file(out), campaign.begun(), campaign.work
    if not virtual and campaign.n > MOST_SHOWERS:
        raise DataError(
            f"{campaign.n:,} {work.what} are too many for one file ({MOST_SHOWERS:,} at most); read the "
            "shards one by one"
        )
    if virtual and not isinstance(work, OfShowers):
        raise DataError(
            f"no virtual data set can be made of {work.what}: where the hits of one begin is told by their "
            "number in the whole file; merge them without --virtual"
        )
    problems = verify_campaign(campaign, show("verifying"))
    if problems or record is None:
        raise DataError(f"{campaign.path} is not complete, and nothing is merged.\n{told_of(problems)}")
    if target.exists() and not overwrite:
        merged = work.opened(target, allow_external=True)
        why = merged_differs(campaign, merged, show("comparing"))
        if merged.provenance.get(MARK) == record.mark and not why:
            return merged
        raise DataError(
            f"{target} exists and is not what would be made: {why or 'it was not merged of this campaign'}; "
            "choose another name or allow overwriting (--overwrite)"
        )
    paths = [campaign.file(shard) for shard in campaign]
    first = work.opened(paths[0])
    told = {"seed": campaign.seed, "n": campaign.n, "shards": campaign.shards, "virtual": virtual}
    made_by = provenance("merge", **told) | {MARK: record.mark, "source": first.provenance}
    if isinstance(first, Showers) and virtual:
        with _VirtualWriter(target, first.mesh, provenance=made_by, overwrite=overwrite) as file:
            file.link(paths, [stop - start for start, stop in (s.span(campaign.n) for s in campaign)])
    else:
        with work.writer(target, first, made_by, overwrite=overwrite) as writer:
            for number, path in enumerate(paths, 1):
                writer.append_all(work.opened(path))
                show("merging")(number, len(paths))
    return work.opened(target, allow_external=virtual)
