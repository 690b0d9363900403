"""Campaigns on batch systems: a job array of Slurm or HTCondor whose jobs each make a share of the shards.

Before its time ends a job gets a signal, saves what is finished of the shard under way and is queued again.
What is there decides what a job does, so that a job may come twice, late, or never.
"""

from __future__ import annotations

import shlex
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from caloforge.campaign.campaign import Campaign
from caloforge.errors import ConditionError, DataError

__all__ = ["Jobs", "System", "script", "submit_campaign"]

System = Literal["slurm", "condor"]
COMMANDS = {"slurm": "sbatch", "condor": "condor_submit"}
MOST_JOBS = 1000
"""Jobs of an array by default, at most: what Slurm allows where nobody has changed it."""
AGAIN = 3
"""How often a job that fails is tried again."""

USR1_STATUS = 128 + signal.SIGUSR1
"""Of a job whose time was over, and which was saved."""


@dataclass(frozen=True)
class Jobs:
    """What is asked of a batch system.

    Attributes:
        number: jobs of the array; by default one a shard, 1000 at most.
        cpus: cores of each, one process each.
        minutes: after which a job is stopped, and queued again.
        grace: seconds before that at which it is told.
        options: further lines of the script, such as ``#SBATCH --partition=long``.

    Raises:
        ConditionError: a number is none that can be.
    """

    number: int | None = None
    cpus: int = 1
    minutes: int = 240
    grace: int = 120
    options: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not 0 < self.grace < 60 * self.minutes:
            raise ConditionError(
                f"a job is told {self.grace} s before its end, and must have longer than that: "
                f"{self.minutes} minutes"
            )
        if any("\n" in option for option in self.options):
            raise ConditionError("an option is one line of the script")


def script(campaign: Campaign, system: System, jobs: Jobs) -> str:
    """What is submitted: a script of Slurm, or a submit description of HTCondor.

    Raises:
        ConditionError: there are more jobs than shards, or a name that HTCondor cannot have.
    """
    number = jobs.number or min(campaign.shards, MOST_JOBS)
    if number > campaign.shards:
        raise ConditionError(f"{number:,} jobs are more than the {campaign.shards:,} files of the campaign")
    arguments = ["-P", "-m", "caloforge", "campaign", "run", str(campaign.path.resolve())]
    record = campaign.begun()
    each = 1024 if record is None else record.cost.memory_mib * 1.3
    told = {
        "name": campaign.path.stem,
        "jobs": number,
        "cpus": jobs.cpus,
        "memory": int(each * (jobs.cpus + 1)),  # one process watches the others
        "grace": jobs.grace,
        "logs": campaign.folder / "logs",
    }
    if system == "slurm":
        command = shlex.join([sys.executable, *arguments])
        options = "\n".join(f"#SBATCH {option}" for option in jobs.options)
        return _template("slurm.sh").format(
            **told, minutes=jobs.minutes, command=command, stopped=USR1_STATUS, options=options
        )
    if any(sign in text for text in (arguments[-1], sys.executable) for sign in "\"'\n"):
        raise ConditionError(f"HTCondor cannot have quotes in the name of a file: {arguments[-1]}")
    return _template("condor.sub").format(
        **told,
        python=sys.executable,
        arguments=" ".join(f"'{word}'" if " " in word else word for word in arguments),
        seconds=60 * jobs.minutes - jobs.grace,
        again=AGAIN,
        options="\n".join(jobs.options),
    )


def _template(name: str) -> str:
    return Path(__file__).with_name(name).read_text("utf-8")


def submit_campaign(campaign: Campaign, system: System, jobs: Jobs) -> str:
    """Submit a campaign to the batch system of this machine; returns what that says.

    Raises:
        ConditionError: as `script`.
        DataError: the folder is another campaign's or has no space, or the system is not there or refuses.
    """
    assert system in get_args(System)
    text, record = script(campaign, system, jobs), campaign.begun()
    if record is None:
        campaign.refuse_strangers()
    else:
        campaign.require_space(record, campaign.missing())
    command = shutil.which(COMMANDS[system])
    if command is None:
        raise DataError(
            f"{COMMANDS[system]} is not on this machine; submit where it is, or look at what would be "
            "submitted with --dry-run"
        )
    (campaign.folder / "logs").mkdir(parents=True, exist_ok=True)
    words = [command] if system == "slurm" else [command, "-"]
    done = subprocess.run(words, input=text, capture_output=True, text=True, check=False)
    if done.returncode:
        raise DataError(f"{COMMANDS[system]} refused the campaign: {done.stderr.strip()}")
    return done.stdout.strip()
