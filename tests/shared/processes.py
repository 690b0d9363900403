"""What each of several processes runs in the tests of training: ``processes.py FOLDER SCENARIO …``."""

from __future__ import annotations

import atexit
import os
import signal
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
import toy_models

from caloforge.data import Showers
from caloforge.errors import CaloforgeError
from caloforge.runtime import precision
from caloforge.training import run, train

RANK = int(os.environ.get("RANK", "0"))
TRAINING = {"epochs": 4, "batch_size": 30, "learning_rate": 0.01, "ema": 0.9, "clip": 1.0, "patience": 2}
RECIPES: dict[str, dict[str, Any]] = {
    "flow": {
        "model": "flow.inductive:InductiveLayerFlow",
        "settings": {"hidden": 16, "scale": 4.0},
        "training": TRAINING | {"epochs": 3, "learning_rate": 1e-3},
    },
    "diffusion": {
        "model": "diffusion.model:DiffusionModel",
        "settings": {
            "energies": {"kind": "transformer", "hidden": 8, "blocks": 1, "heads": 2, "dropout": 0.2},
            "backbone": {"patch": (2, 3, 3), "width": 16, "depth": 1, "heads": 2},
            "sampler": {"steps": 2},
        },
        "training": TRAINING | {"augment": ["rotate_phi", "reflect_phi"]},
    },
    "icaloflow": {
        "model": "flow.icaloflow:ICaloFlow",
        "settings": {"blocks": 2, "hidden": 8, "dropout": 0.3, "energies": {"blocks": 2, "hidden": 8}},
        "training": TRAINING | {"epochs": 2, "learning_rate": 1e-3},
    },
    "toy": {
        "model": "toy_models:TwoParts",
        "settings": {"dropout": 0.3},
        "training": TRAINING
        | {
            "epochs": 12,
            "schedule": "constant",
            "parts": {"location": {"patience": 1, "learning_rate": 0.3}, "width": {"repeat": 2}},
        },
    },
}
"""Small trainings with all that could go another way in several processes."""
ASKED = {"model": "toy_models:Asked", "settings": {"dropout": 0.3}, "training": TRAINING}


def showers() -> Showers:
    """Showers of which now and then a whole layer is empty; neither they nor those held out divide by two."""
    toy = toy_models.toy_showers(145)
    energies = np.array(toy.energies)
    energies[np.random.default_rng(3).random(len(energies)) < 0.3, -1] = 0
    return Showers(energies, toy.conditions, toy.mesh, toy.provenance)


class Asked(toy_models.LayerGaussian):
    """One of its processes, or all, get a signal after so many steps; SIGKILL cannot be caught."""

    number, at, ranks, count = signal.SIGINT, 0, (0,), 0

    def after_step(self, part: str) -> None:
        type(self).count += 1
        if self.count == self.at and RANK in self.ranks:
            os.kill(os.getpid(), self.number)


def fit(name: str, folder: Path, **options: Any) -> str:
    """Train one of the recipes; the fingerprint of the result."""
    checkpoint = train(RECIPES[name], showers(), out=folder, progress=False, device="cpu", **options)
    return checkpoint.fingerprint


def asked(folder: Path, at: int = 0, **options: Any) -> str:
    """Train `Asked`; its fingerprint, or how it ended."""
    Asked.count, Asked.at = 0, at
    for key in ("number", "ranks", "sees_batch"):
        setattr(Asked, key, options.pop(key, getattr(Asked, key)))
    toy_models.Asked = Asked  # type: ignore[attr-defined]
    try:
        made = train(ASKED, showers(), out=folder, progress=False, device="cpu", **options)
    except KeyboardInterrupt:
        return "KeyboardInterrupt"
    except SystemExit as end:
        return f"SystemExit {end.code}"
    except CaloforgeError as error:
        return f"{type(error).__name__}: {error}"
    return made.fingerprint


def interruptions(folder: Path) -> list[str]:
    """How signals end a training, and how it goes on."""
    saved: list[Path] = []
    write = run.save_state

    def counted(*args: Any) -> None:
        saved.append(args[0])
        write(*args)

    run.save_state = counted
    ended = [
        asked(folder / "whole"),
        asked(folder / "a", at=3, ranks=(1,)),
        f"{sum(path.parts[-2] == 'a' for path in saved)} times saved",
        asked(folder / "a", resume=True),
        asked(folder / "b", at=7, ranks=(0, 1)),
        asked(folder / "c", at=6, ranks=(1,), number=signal.SIGTERM),
        asked(folder / "c"),
        asked(folder / "d", sees_batch=True),
    ]
    run.save_state = write
    return ended


def threads() -> list[str]:
    """Names of this process' threads, those of libraries too."""
    return [(task / "comm").read_text().strip() for task in Path("/proc/self/task").iterdir()]


def main() -> None:
    """Run the scenarios that are named; each process leaves its word in a file of its own."""
    torch.set_num_threads(1)
    precision.native_bf16 = lambda device: False  # type: ignore[assignment]
    folder = Path(sys.argv[1])
    atexit.register(lambda: (folder / f"threads-{RANK}").write_text("\n".join(threads())))
    words = []
    for scenario in sys.argv[2:]:
        if scenario == "interruptions":
            words += interruptions(folder)
        elif scenario == "killed":
            words.append(asked(folder / "killed", at=7, ranks=(0,), number=signal.SIGKILL))
        else:
            words.append(fit(scenario, folder / scenario))
    (folder / f"words-{RANK}").write_text("\n".join(words))


if __name__ == "__main__":
    main()
