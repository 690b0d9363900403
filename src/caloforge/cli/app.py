"""The ``caloforge`` command: which commands there are, and how their errors are told."""

from __future__ import annotations

import signal
import sys
from io import TextIOWrapper
from typing import Annotated, Any, NoReturn

import typer
from rich.markup import escape
from typer.core import TyperGroup

from caloforge.cli import campaign, data
from caloforge.cli.bench import amplify, bench
from caloforge.cli.compare import compare
from caloforge.cli.demo import demo
from caloforge.cli.doctor import doctor
from caloforge.cli.evaluate import evaluate
from caloforge.cli.export import export
from caloforge.cli.generate import generate, upsample
from caloforge.cli.lists import detectors, models, recipes
from caloforge.cli.output import errors, show_log, speaks
from caloforge.cli.quickstart import quickstart
from caloforge.cli.serve import serve
from caloforge.cli.simulate import simulate
from caloforge.cli.train import adapt, train
from caloforge.errors import CaloforgeError
from caloforge.runtime.cores import wait_passively
from caloforge.runtime.provenance import code_version
from caloforge.runtime.signals import Stopped, stoppable

__all__ = ["app", "main"]

COMMANDS = (
    simulate,
    train,
    generate,
    adapt,
    upsample,
    export,
    demo,
    evaluate,
    compare,
    bench,
    amplify,
    quickstart,
    serve,
    detectors,
    recipes,
    models,
    doctor,
)


class _Commands(TyperGroup):
    """Says what was kept where a signal stops a command, which typer itself passes over."""

    def invoke(self, ctx: Any) -> Any:
        try:
            with stoppable():
                return super().invoke(ctx)
        except KeyboardInterrupt as stop:
            _say_stopped(f"interrupted. {stop}" if str(stop) else "interrupted; nothing was kept.")
            raise typer.Exit(130) from None
        except Stopped as stop:
            if not stop.message:
                _say_stopped(f"stopped by {signal.Signals(stop.number).name}; nothing was kept.")
            raise typer.Exit(128 + stop.number) from None


def _say_stopped(text: str) -> None:
    if speaks:
        errors.print(escape(text), highlight=False, soft_wrap=True)


app = typer.Typer(
    cls=_Commands,
    help="Fast simulation of calorimeter showers with generative models.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(data.app, name="data")
app.add_typer(campaign.app, name="campaign")
for command in COMMANDS:
    app.command()(command)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"caloforge {code_version()}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    show_log()


def main() -> None:
    """Run the command line; errors that a user can mend are one message without a traceback."""
    wait_passively()
    if isinstance(sys.stdout, TextIOWrapper):  # what its encoding lacks must not end a command that is done
        sys.stdout.reconfigure(errors="replace")
    try:
        app()
    except BrokenPipeError:
        sys.exit(141)
    except CaloforgeError as error:
        _fail(str(error))
    except MemoryError as error:
        _fail(f"there is not enough memory for this: {error}")
    except OSError as error:  # of the system: a folder that may not be entered, a name that is too long
        _fail(f"{error.filename}: {error.strerror}" if error.filename and error.strerror else str(error))


def _fail(text: str) -> NoReturn:
    errors.print(f"[bold red]error:[/] {escape(text)}", highlight=False, soft_wrap=True)
    sys.exit(1)
