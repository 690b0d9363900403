"""How few showers of a new detector a joint model needs, against training from scratch.

See docs/how-to/adaptation.md.

    python benchmarks/adaptation.py JOINT new_train.h5 new_test.h5 -o adaptation \\
        --known a_test.h5 b_test.h5 c_test.h5 [--sizes 250,500,1000,2000] [--steps 300] [--others 75,900]

JOINT is a checkpoint of several detectors. It is adapted to the new one with the first n showers of
new_train.h5, and models of its recipe are trained on those alone, and on all, in as many steps. Each makes
showers at the conditions of new_test.h5 and is judged against them; so is JOINT in the detectors that it
knows, in bins of θ, and after adaptation once more. Everything is on one thread. What is there is kept, so
that the run may be interrupted and go on.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from caloforge.checkpoint import Checkpoint
from caloforge.data import open_showers
from caloforge.evaluation.results import Estimate, Evaluation
from caloforge.generation import generate
from caloforge.report import evaluate
from caloforge.training import adapt, train

SEED = 1
METRICS = {"auc_low": "AUC low", "auc_high": "AUC high", "fpd": "FPD"}


@dataclass(frozen=True)
class Run:
    """One model: adapted, or trained from scratch, on the first ``n`` showers in ``steps`` steps."""

    adapted: bool
    n: int
    steps: int

    @property
    def name(self) -> str:
        return f"{'adapted' if self.adapted else 'scratch'}-{self.n}-{self.steps}"


def planned(sizes: list[int], everything: int, steps: int, others: list[int]) -> list[Run]:
    """What the question is about first, then other lengths of the trainings, then the rest of the sizes.

    An adaptation of one step, at learning rate 0, shows what the network makes of a detector that it knows
    by its physical properties only.
    """
    few = min(sizes, key=lambda n: abs(n - 1000))
    runs = [Run(True, few, steps), Run(False, everything, steps), Run(False, few, steps), Run(True, few, 1)]
    runs += [Run(adapted, n, steps) for n in sizes for adapted in (True, False)]
    for other in others:
        runs += [Run(True, few, other), Run(False, everything, other)]
    return list(dict.fromkeys(runs))


def make(run: Run, joint: Checkpoint, new: Path, folder: Path) -> tuple[Checkpoint, float]:
    """The model of a run and the processor time, s, of its training, which is left out where it is done."""
    showers, out = open_showers(new)[: run.n], folder / run.name
    clock, before = out / "processor_seconds.json", time.process_time()
    anew = not (out / "checkpoint.json").exists()
    if run.adapted:
        model = adapt(joint, showers, out=out, steps=run.steps, seed=SEED, resume=True)
    else:
        changes = {"training.steps": run.steps}
        model = train(joint.recipe, showers, out=out, overrides=changes, seed=SEED, resume=True)
    if not clock.exists():  # of one that was resumed, the time on the clock
        seconds = time.process_time() - before if anew else model.metrics["seconds"]
        clock.write_text(json.dumps(seconds))
    return model, float(json.loads(clock.read_text()))


def judged(
    checkpoint: Checkpoint, test: Path, folder: Path, sampler_steps: int, slices: dict[str, Any]
) -> Evaluation:
    """Metrics of showers at the conditions of ``test``, read where they are there already."""
    if not (folder / "metrics.json").exists():
        settings = {"sampler.steps": sampler_steps}
        out = folder / f"{test.stem}.h5"
        showers = generate(  # a few of the test showers lie just outside the range of few training showers
            checkpoint,
            like=test,
            out=out,
            settings=settings,
            seed=SEED,
            resume=True,
            threads=1,
            allow_extrapolation=True,
        )
        evaluate(test, showers, out=folder, slices=slices, seed=SEED)
    return Evaluation.read(folder / "metrics.json")


def metric(evaluation: Evaluation, key: str) -> Estimate:
    """A metric with its error."""
    if key.startswith("auc_"):
        result = evaluation.classifiers[key.removeprefix("auc_")]
        return Estimate(value=result.auc, error=max(result.auc_std, result.auc_noise))
    return evaluation.distances[key]


def cell(estimate: Estimate | None) -> str:
    return "–" if estimate is None else f"{estimate.value:.3g} ± {estimate.error:.1g}"


def table(heads: list[str], rows: list[list[str]]) -> str:
    return "\n".join("| " + " | ".join(row) + " |" for row in (heads, ["---"] * len(heads), *rows)) + "\n"


def adaptation_table(done: dict[Run, tuple[float, Evaluation]]) -> str:
    """Quality and time of every run, few showers first."""
    rows = [
        [
            "adapted" if run.adapted else "from scratch",
            str(run.n),
            str(run.steps),
            f"{seconds:.0f}",
            *(cell(metric(evaluation, key)) for key in METRICS),
        ]
        for run, (seconds, evaluation) in sorted(
            done.items(), key=lambda item: (not item[0].adapted, item[0].n, item[0].steps)
        )
    ]
    _, last = next(reversed(done.values()))
    fpd = last.distances["fpd"]
    chance = [Estimate(value=0.5, error=last.classifiers[name].auc_noise) for name in ("low", "high")]
    chance.append(Estimate(value=fpd.floor, error=fpd.floor_error))
    rows.append(["two samples of one origin", "", "", "", *map(cell, chance)])
    return table(["model", "showers", "steps", "processor s", *METRICS.values()], rows)


def known_table(judgements: dict[str, Evaluation]) -> str:
    """Quality in each detector, over all directions and in each bin of θ."""
    rows = []
    for name, evaluation in judgements.items():
        whole = [cell(metric(evaluation, key)) for key in METRICS]
        rows.append([name, "all", *whole])
        for part in evaluation.slices:
            if part.condition == "theta":
                cells = [cell(part.metrics.get(key)) for key in METRICS]
                rows.append([name, part.label, *cells])
    return table(["detector", "directions", *METRICS.values()], rows)


def draw(done: dict[Run, tuple[float, Evaluation]], steps: int, path: Path) -> None:
    """Each metric against the number of showers and, of one number each, against the time of training."""
    figure = Figure(figsize=(8, 6.5), layout="constrained")
    panels = figure.subplots(len(METRICS), 2, sharey="row", sharex="col")
    for adapted, colour, label in ((True, "#c8102e", "adapted"), (False, "#4a4f57", "from scratch")):
        of_kind = {run: value for run, value in done.items() if run.adapted == adapted and run.steps > 1}
        by_size = sorted((run.n, i) for i, run in enumerate(of_kind) if run.steps == steps)
        n = min((n for n, _ in by_size), key=lambda n: abs(n - (1000 if adapted else 1e9)))
        by_time = sorted((s, i) for i, (run, (s, _)) in enumerate(of_kind.items()) if run.n == n)
        values = [evaluation for _, evaluation in of_kind.values()]
        for row, key in zip(panels, METRICS, strict=True):
            for panel, points, text in zip(
                row, (by_size, by_time), (label, f"{label}, {n} showers"), strict=True
            ):
                shown = [metric(values[i], key) for _, i in points]
                panel.errorbar(
                    [x for x, _ in points],
                    [v.value for v in shown],
                    [v.error for v in shown],
                    color=colour,
                    marker="o",
                    markersize=4,
                    capsize=2,
                    label=text,
                )
    sizes = sorted({run.n for run in done if run.steps == steps})
    for panel, text in zip(panels[-1], ("showers of the new detector", "training, processor s"), strict=True):
        panel.set_xscale("log")
        panel.set_xlabel(text)
    panels[-1, 0].set_xticks(sizes, labels=map(str, sizes), minor=False)
    for axis in (panel.xaxis for panel in panels[-1]):
        axis.set_minor_locator(NullLocator())
    panels[-1, 1].xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    panels[-1, 1].xaxis.set_major_formatter("{x:.0f}")
    for row, (key, text) in zip(panels, METRICS.items(), strict=True):
        row[0].set_ylabel(text)
        if key.startswith("auc"):
            for panel in row:
                panel.axhline(0.5, color="#d5d8dd", zorder=0)
        else:
            row[0].set_yscale("log")
            row[0].yaxis.set_major_formatter("{x:g}")
    for panel in panels[0]:
        panel.legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=100)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("joint", type=Path)
    parser.add_argument("train", type=Path)
    parser.add_argument("test", type=Path)
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--known", type=Path, nargs="*", default=[], help="test showers of known detectors")
    parser.add_argument("--sizes", default="250,500,1000,2000")
    parser.add_argument("--steps", type=int, default=300, help="of every training")
    parser.add_argument("--others", default="", help="further numbers of steps, for the curve against time")
    parser.add_argument("--sampler-steps", type=int, default=8)
    given = parser.parse_args()
    torch.set_num_threads(1)
    given.out.mkdir(parents=True, exist_ok=True)
    joint = Checkpoint.load(given.joint)
    everything = len(open_showers(given.train))
    sizes, others = ([int(n) for n in text.split(",") if n] for text in (given.sizes, given.others))
    runs = planned(sizes, everything, given.steps, others)
    no_slices: dict[str, Any] = {}
    done: dict[Run, tuple[float, Evaluation]] = {}
    for run in runs:
        print(run.name, flush=True)
        model, seconds = make(run, joint, given.train, given.out)
        folder = given.out / run.name / "judged"
        evaluation = judged(model, given.test, folder, given.sampler_steps, no_slices)
        done[run] = (seconds, evaluation)
        (given.out / "adaptation.md").write_text(adaptation_table(done))
    draw(done, given.steps, given.out / "adaptation.png")
    print(adaptation_table(done))
    known = {}
    adapted, _ = make(runs[0], joint, given.train, given.out)
    for who, model in (("", joint), (", after adaptation", adapted)):
        for test in given.known:
            folder = given.out / f"known{'-adapted' * bool(who)}" / test.stem
            name = f"{open_showers(test).conditions.detector[0]}{who}"
            known[name] = judged(model, test, folder, given.sampler_steps, {"theta": 4, "energy": 4})
            (given.out / "known.md").write_text(known_table(known))
    print(known_table(known))


if __name__ == "__main__":
    main()
