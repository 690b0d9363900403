"""``stops.py FOLDER SIGNAL AT ARGUMENT …``: the command with a toy model that sends its own process a signal.

It does so in its step, or block, number AT; with 0 it says in FOLDER that it has begun, and goes on slowly.
The exit status is left there, too, since a launcher does not pass it on.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

import toy_models

from caloforge.cli.app import main

FOLDER, NUMBER, AT = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
RANK = os.environ.get("RANK", "0")


class Stops(toy_models.LayerGaussian):
    count = 0

    def happens(self) -> None:
        Stops.count += 1
        if self.count == AT:
            os.kill(os.getpid(), NUMBER)
        if not AT:
            (FOLDER / f"begun-{RANK}").touch()
            time.sleep(0.05)

    def after_step(self, part: str) -> None:
        self.happens()

    def decode(self, *given: Any) -> Any:
        self.happens()
        return super().decode(*given)


if __name__ == "__main__":
    Stops.__module__ = "toy_models"
    toy_models.LayerGaussian = Stops  # type: ignore[misc]
    del sys.argv[1:4]
    try:
        main()
    except SystemExit as end:
        (FOLDER / f"status-{RANK}").write_text(str(end.code))
        raise
