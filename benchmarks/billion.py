"""What a billion showers of par04-siw take, and which command of a campaign suffers first of many files.

    python benchmarks/billion.py models [-n 1000]         # processor time, memory and bytes of each model
    python benchmarks/billion.py sizes [FOLDER] [--model NAME] [--sizes 1000 …]   # cost a shower, 10³ to 10⁶
    python benchmarks/billion.py files FOLDER [--files N]  # commands of campaigns of many tiny files
    python benchmarks/billion.py real FOLDER [--files N]  # the same, of files of 20 showers that are made
    python benchmarks/billion.py table                    # that of docs/how-to/production.md

All but the last put what they measure into docs/results/billion.json, from which, with families.json beside
it, that one adds up. Each model runs in a process of its own, on one thread, and processor time is
counted, so that other programs of the machine disturb it little. Times on an H200 are those of
docs/how-to/gpu.md, which `benchmarks/gpu.py` has measured. The tiny files are not generated: they are written
and sealed with the conditions, numbers and provenance that theirs would have, without energy. ``real`` goes
on with what there is, and tells the time of what was missing; ``sizes`` leaves its largest file in FOLDER.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from measure import keep, peak_mib, timed

from caloforge.campaign import Campaign, merge_campaign, plan_campaign, run_campaign, verify_campaign
from caloforge.campaign.campaign import Seal
from caloforge.campaign.verify import shard_states
from caloforge.data import ShowerWriter, open_showers
from caloforge.data.fingerprint import conditions_digest
from caloforge.generation import generate
from caloforge.generation.conditions import incident_conditions
from caloforge.runtime.files import write_json

RESULTS = Path(__file__).parents[1] / "docs" / "results"
FILE, FAMILIES = RESULTS / "billion.json", RESULTS / "families.json"
ENERGY = "1-50GeV"
BILLION = 10**9
REPEATS, FEW = 5, 10_000
"""Measurements of so many showers at most, whose processor time other programs would decide."""
MODELS = {  # name here, in families.json, and ms a shower of blocks of 1000 on an H200 (docs/how-to/gpu.md)
    "showertree-siw": ("showertree", 0.11),
    "supercalo-siw": ("supercalo", 0.070),
    "fast-siw": ("", None),
    "conv-l2lflows-siw": ("conv-l2lflows", 0.13),
    "showertransformer-siw": ("showertransformer", 0.054),
    "gflash:par04-siw": ("gflash", None),
}


def one(model: str, n: int, folder: Path | None) -> dict[str, float]:
    """Processor time, memory and bytes of n showers of a model, in this process, and perhaps their file."""
    with tempfile.TemporaryDirectory() as scratch:
        for i, count in enumerate((min(n, 300), n)):  # the first warms up
            began = time.process_time()
            out = Path(scratch if folder is None or i == 0 else folder) / f"{count}.h5"
            made = generate(
                model, energy=ENERGY, n=count, out=out, seed=i, threads=1, overwrite=True, progress=False
            )
            took = time.process_time() - began
        size = out.stat().st_size
        told = made.provenance["performance"]
    return {
        "ms": 1e3 * took / n,
        "bytes": size / n,
        "mib": peak_mib(),
        "block": told["batch_size"],
        "showers": n,
    }


def apart(model: str, n: int, folder: Path | None = None) -> dict[str, float]:
    """The same, in a process of its own."""
    command = [sys.executable, __file__, "one", *([str(folder)] if folder else []), "--model", model]
    one_thread = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, "-n", str(n)], stdout=subprocess.PIPE, text=True, check=True, env=one_thread
    )
    return json.loads(done.stdout)


def models(n: int) -> None:
    """Every shipped model of par04-siw."""
    found = {}
    for model in MODELS:
        found[model] = apart(model, n)
        print(f"{model:24}" + "".join(f"{key} {value:.5g}  " for key, value in found[model].items()))
        keep(FILE, "models", found)


def sizes(model: str, counts: list[int], folder: Path | None) -> None:
    """Cost a shower where so many are made at once; the median of five measurements of few showers."""
    for n in counts:
        last = folder if n == max(counts) else None
        found = sorted((apart(model, n, last) for _ in range(REPEATS if n <= FEW else 1)), key=_ms)
        row = found[len(found) // 2] | {"all": [_ms(one) for one in found]}
        print(
            f"{n:>8}: {row['ms']:.4f} ms, {row['bytes']:.0f} bytes a shower, {row['mib']:.0f} MiB", flush=True
        )
        keep(FILE, f"{n} showers of {model}", row)


def _ms(row: dict[str, float]) -> float:
    return row["ms"]


def campaign_of(folder: Path, files: int, showers: int) -> Campaign:
    """A campaign of many files of a few showers each, of which nothing is made."""
    folder.mkdir(parents=True, exist_ok=True)
    told = f'n = {showers * files}\nseed = 7\nshard_size = {showers}\nout = "made/{{shard}}.h5"\n[generate]\n'
    (folder / "tiny.toml").write_text(told + f'model = "gflash:par04-siw"\nenergy = "{ENERGY}"\n')
    return Campaign.load(folder / "tiny.toml")


def tiny_files(folder: Path, files: int) -> Campaign:
    """A complete campaign of many files of two showers each."""
    campaign = campaign_of(folder, files, 2)
    run_campaign(campaign, share=f"1/{files}", workers=1, progress=False)
    shards = list(campaign)
    first = open_showers(campaign.file(shards[0]))
    from caloforge.campaign.showers import Generate

    assert isinstance(campaign.work, Generate)
    asked = campaign.work._asked(campaign.home)
    names = ("detector", "particle", "energy", "theta", "phi", "spectrum")
    conditions, _ = incident_conditions(
        asked["checkpoint"],
        n=campaign.n,
        seed=campaign.seed,
        **{name: asked[name] for name in names},
        conditions=None,
    )
    for shard in shards[1:]:
        start, stop = shard.span(campaign.n)
        own = conditions[start:stop]
        request = first.provenance["request"] | {"first": start, "conditions": conditions_digest(own)}
        with ShowerWriter(
            campaign.file(shard), first.mesh, provenance=first.provenance | {"request": request}
        ) as writer:
            writer.append(np.zeros((len(own), first.mesh.n_voxels), dtype=np.float32), own)
        write_json(campaign.seal(shard), asdict(Seal.of(campaign.file(shard), shard, campaign.record)))
    return Campaign.load(campaign.path)


def many_files(folder: Path, files: int, *, real: bool, merged: bool) -> None:
    """What each command takes where there are many files and little or next to nothing in them."""
    found: dict[str, Any] = {"files": files, "real": real}
    if real:
        campaign = campaign_of(folder, files, 20)
        found["missing"] = len(campaign.missing())
        found["made"] = timed(lambda: run_campaign(campaign, progress=False))
    else:
        found["made"] = timed(lambda: tiny_files(folder, files))
    print(f"{'made':20}{found['made']['cpu']:10.2f} s of a core{found['made']['wall']:10.2f} s", flush=True)
    campaign = Campaign.load(folder / "tiny.toml")
    virtual = folder / "all.h5"
    commands: dict[str, Callable[[], Any]] = {
        "status": lambda: shard_states(campaign),
        "plan": lambda: plan_campaign(campaign),
        "run, nothing to do": lambda: run_campaign(campaign, progress=False),
        "verify": lambda: complete(campaign),
    }
    of_merged: dict[str, Callable[[], Any]] = {
        "merge --virtual": lambda: merge_campaign(campaign, virtual, virtual=True),
        "opening it": lambda: open_showers(virtual, allow_external=True),
        "reading it": lambda: [0 for _ in open_showers(virtual, allow_external=True).batches()],
        "merge": lambda: merge_campaign(campaign, folder / "one.h5"),
    }
    for name, command in (commands | (of_merged if merged else {})).items():
        found[name] = timed(command)
        print(f"{name:20}{found[name]['cpu']:10.2f} s of a core{found[name]['wall']:10.2f} s", flush=True)
    sizes = [path.stat().st_size for path in campaign.folder.glob("*.h5")]
    found["bytes of a file"] = float(np.mean(sizes))
    if merged:
        found["bytes of the virtual one"] = virtual.stat().st_size
    keep(FILE, f"{files} {'real ' if real else ''}files", found)


def complete(campaign: Campaign) -> None:
    """Verify, which must find nothing."""
    if problems := verify_campaign(campaign):
        raise SystemExit(f"not complete: {problems[0]}")


def table() -> None:
    """A billion showers of every model."""
    measured, families = json.loads(FILE.read_text())["models"], json.loads(FAMILIES.read_text())["rows"]
    print("| model | ms of a core | core hours | ms of an H200 | GPU hours | TB | cost of 10⁶ |")
    print("|---|---|---|---|---|---|---|")
    for model, (family, gpu) in MODELS.items():
        ms = families[family]["ms"]["100"] if family else measured[model]["ms"]
        hours = ms * BILLION / 3.6e6
        cells = [model, f"{ms:.2g}", _round(hours)]
        cells += ["", ""] if gpu is None else [f"{gpu:.2g}", _round(gpu * BILLION / 3.6e6)]
        cost = f"{hours / 1000:.2g} core h" + ("" if gpu is None else f" or {gpu / 3.6:.2g} GPU h")
        cells += [f"{measured[model]['bytes'] * BILLION / 1e12:.2g}", cost]
        print(f"| {' | '.join(cells)} |")
    ms = float(np.median([row["geant4_ms"] for row in families.values() if "geant4_ms" in row]))
    print(f"| Geant4 | {ms:.0f} | {_round(ms * BILLION / 3.6e6)} | | | | {ms / 3.6:.2g} core h |")


def _round(value: float) -> str:
    digits = 2 - 1 - math.floor(math.log10(value))
    return f"{round(value, digits):,.0f}"


def main() -> None:
    """Measure or add up."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("models", "sizes", "files", "real", "table", "one"))
    parser.add_argument("folder", type=Path, nargs="?", help="for the files")
    parser.add_argument("--sizes", type=int, nargs="+", default=[10**k for k in range(3, 7)])
    parser.add_argument("--model", default="fast-siw")
    parser.add_argument("-n", type=int, default=1000)
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--no-merge", action="store_true", help="without merged files, which take longest")
    options = parser.parse_args()
    if options.what == "one":
        print(json.dumps(one(options.model, options.n, options.folder)))
    elif options.what == "models":
        models(options.n)
    elif options.what == "sizes":
        sizes(options.model, options.sizes, options.folder)
    elif options.what in ("files", "real"):
        if options.folder is None:
            parser.error("name a folder for the files")
        real = options.what == "real"
        many_files(options.folder, options.files, real=real, merged=not options.no_merge)
    else:
        table()


if __name__ == "__main__":
    main()
