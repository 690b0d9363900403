"""``caloforge campaign``: productions of many files, planned, run, looked at, proven complete and merged."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from caloforge.cli.options import AllowCode, Overwrite
from caloforge.cli.output import say
from caloforge.errors import ConditionError, DataError
from caloforge.runtime.progress import Display

if TYPE_CHECKING:
    from caloforge.campaign import Campaign
    from caloforge.campaign.submit import System

__all__ = ["app"]

app = typer.Typer(
    help="Productions of many files by many processes that need nothing of each other, told by a TOML file.",
    no_args_is_help=True,
)

File = Annotated[Path, typer.Argument(help="The campaign's TOML file (docs/how-to/production.md).")]


def _opened(file: Path) -> Campaign:
    from caloforge.campaign import Campaign

    return Campaign.load(file)


@app.command()
def plan(file: File, allow_code: AllowCode = None) -> None:
    """Say what a campaign takes: time, disk and memory, of a short probe on this machine."""
    from caloforge.campaign import plan_campaign

    campaign = _opened(file)
    found = plan_campaign(campaign)
    cost = found.cost
    where = campaign.folder / campaign.pattern
    say(f"{found.showers:,} {campaign.work.what} in {found.shards:,} files, {where}")
    say(f"missing: {found.missing:,} files")
    say(f"time: {1e3 * cost.seconds:.3g} ms of a core each ({cost.showers} were probed)")
    say(f"      {found.shard_seconds:,.0f} s a file, {found.core_hours:,.2f} core hours in all")
    each, free = cost.bytes / 1024, found.free / 1e9
    say(f"disk: {each:,.1f} KiB each, {found.disk / 1e9:,.3f} GB in all; {free:,.1f} GB are free")
    say(f"memory: {cost.memory_mib:,.0f} MiB a process")
    say(f"class of this host: {found.decided['host']}")
    say(f"versions: {found.decided['code']}")


@app.command()
def run(
    file: File,
    share: Annotated[
        str | None, typer.Option(metavar="I/M", help="Only the I-th of M parts of the files: 3/20.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(help="Processes; by default as many as usable cores and memory.", min=1)
    ] = None,
    retries: Annotated[
        int, typer.Option(help="How often a file is tried again whose process was killed.", min=0)
    ] = 3,
    dask: Annotated[
        str | None, typer.Option(metavar="WHERE", help="By Dask: local, slurm, condor or an address.")
    ] = None,
    allow_code: AllowCode = None,
) -> None:
    """Make the files that are missing; also at the same time on several machines."""
    from caloforge.campaign import run_campaign

    campaign = _opened(file)
    tally = run_campaign(campaign, share=share, workers=workers, retries=retries, dask=dask)
    busy = f", {tally.busy} are being made by others" if tally.busy else ""
    say(f"{tally.made} files made{busy} → {campaign.folder}")


@app.command()
def submit(
    file: File,
    slurm: Annotated[bool, typer.Option("--slurm", help="As a job array of Slurm.")] = False,
    condor: Annotated[bool, typer.Option("--condor", help="As jobs of HTCondor.")] = False,
    jobs: Annotated[
        int | None, typer.Option(help="How many; by default one a file, 1000 at most.", min=1)
    ] = None,
    cpus: Annotated[int, typer.Option(help="Cores of a job, each for a process.", min=1)] = 1,
    minutes: Annotated[int, typer.Option(help="Time of a job, which goes on later.", min=1)] = 240,
    grace: Annotated[
        int, typer.Option(help="Seconds before its end at which a job saves what it has.", min=1)
    ] = 120,
    option: Annotated[
        list[str] | None,
        typer.Option(help="A further option, --partition=long or accounting_group = x. May be repeated."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only print what would be submitted.")] = False,
    allow_code: AllowCode = None,
) -> None:
    """Submit a campaign to a batch system, and print what is submitted."""
    from caloforge.campaign import submit_campaign
    from caloforge.campaign.submit import Jobs, script

    if slurm == condor:
        raise ConditionError("say which batch system: --slurm or --condor")
    campaign = _opened(file)
    system: System = "slurm" if slurm else "condor"
    wanted = Jobs(jobs, cpus, minutes, grace, tuple(option or ()))
    say(script(campaign, system, wanted))
    if not dry_run:
        say(submit_campaign(campaign, system, wanted))


@app.command()
def status(file: File, allow_code: AllowCode = None) -> None:
    """Count files by what is there of them, by names and sizes alone."""
    from caloforge.campaign.verify import STATES, shard_states

    campaign = _opened(file)
    counts = shard_states(campaign)
    for state, count in counts.items():
        say(f"{count:>9,} {state} ({STATES[state]})")
    say(f"{campaign.shards:>9,} files of {campaign.n:,} {campaign.work.what} in {campaign.folder}")


@app.command()
def verify(
    file: File,
    merged: Annotated[Path | None, typer.Argument(help="A merged file to compare with the shards.")] = None,
    allow_code: AllowCode = None,
) -> None:
    """Prove that a campaign is complete, or name what is missing, damaged, doubled or foreign."""
    from caloforge.campaign import verify_campaign
    from caloforge.campaign.verify import merged_differs, told_of

    campaign = _opened(file)
    with Display("files") as show:
        problems = verify_campaign(campaign, partial(show, "verifying"))
        if problems:
            raise DataError(f"{file} is not complete\n{told_of(problems)}")
        if merged is not None:
            opened = campaign.work.opened(merged, allow_external=True)
            if why := merged_differs(campaign, opened, partial(show, "comparing")):
                raise DataError(f"{merged} is not the merged campaign: {why}; merge it anew (--overwrite)")
    whole = f"{campaign.n:,} {campaign.work.what} in {campaign.shards:,} files"
    say(f"complete: {whole}, each number once, of one code and host class")


@app.command()
def merge(
    file: File,
    out: Annotated[Path, typer.Argument(help="The file to make.")],
    virtual: Annotated[
        bool, typer.Option("--virtual", help="Copy nothing: an HDF5 virtual data set over the files.")
    ] = False,
    overwrite: Overwrite = False,
    allow_code: AllowCode = None,
) -> None:
    """Make one file of a complete campaign."""
    from caloforge.campaign import merge_campaign

    campaign = _opened(file)
    with Display("files") as show:
        made = merge_campaign(campaign, out, virtual=virtual, overwrite=overwrite, progress=show)
    told = " (which reads from these)" if virtual else ""
    say(f"{len(made)} {campaign.work.what} of {campaign.shards} files → {out}{told}")
