"""``caloforge serve``: one model for several processes."""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path
from typing import Annotated

import typer

from caloforge.cli.options import AllowCode, Changes, CheckpointFolder, Device, Kernels, Precision, overrides
from caloforge.cli.output import say
from caloforge.fast import MEMORY_MIB
from caloforge.runtime.signals import catch_signals

__all__ = ["serve"]

SECONDS = 0.2
"""Between looks at whether to end."""


def serve(
    checkpoint: CheckpointFolder,
    socket: Annotated[
        Path | None,
        typer.Option(help="Socket to make; by default one named after the model, for this user alone."),
    ] = None,
    memory: Annotated[
        int, typer.Option(help="MiB that showers under way may take, beside the model.", min=1)
    ] = MEMORY_MIB,
    threads: Annotated[
        int | None, typer.Option(help="Blocks made side by side on a CPU; all cores by default.", min=1)
    ] = None,
    merge: Annotated[
        bool,
        typer.Option(
            "--merge",
            help="Make showers of several runs at once: quicker where they order few at a time, but "
            "their last bits then depend on each other.",
        ),
    ] = False,
    settings: Changes = None,
    device: Device = "auto",
    precision: Precision = "auto",
    kernels: Kernels = "auto",
    allow_code: AllowCode = None,
) -> None:
    """Make showers for Geant4 runs on this machine (simulate --fast SOCKET), until Ctrl-C."""
    from caloforge.fast.maker import ShowerMaker
    from caloforge.fast.server import ShowerServer
    from caloforge.generation import resolve_checkpoint
    from caloforge.runtime.cores import checked_threads, usable_threads
    from caloforge.runtime.memory import peak_memory_mib

    number = checked_threads(threads or usable_threads())
    model = resolve_checkpoint(checkpoint, None, overrides(settings))
    maker = ShowerMaker(model, device, precision, kernels)
    path = socket or Path(os.environ.get("XDG_RUNTIME_DIR", tempfile.gettempdir())) / (
        f"caloforge-{model.name.replace(':', '-')}-{os.getpid()}"
    )
    server = ShowerServer(maker, path, threads=number, memory_mib=memory, merge=merge)
    with catch_signals() as interrupt, server:
        say(f"{model.name} ({maker.model.execution}) makes showers at {path}; Ctrl-C ends it")
        while not interrupt.signal:
            time.sleep(SECONDS)
    tally, peak = server.tally, peak_memory_mib(maker.model.device)
    each = tally.showers / max(tally.blocks, 1)
    say(
        f"ended: {tally.showers} showers for {tally.orders} orders, {each:.1f} in each of {tally.blocks} "
        f"blocks, peak memory {peak:.0f} MiB"
    )
