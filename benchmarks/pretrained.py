"""Put a trained checkpoint into the package with a model card made of what was measured.

    python benchmarks/pretrained.py NAME SYSTEMS/SYSTEM RECIPE "what it is" --limits "what it cannot do"

SYSTEMS is the folder of benchmarks/systems.py: the checkpoint is SYSTEMS/SYSTEM, its times are beside it in
SYSTEM.json and its metrics those of SYSTEMS/comparison.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch

from caloforge import read_comparison
from caloforge.checkpoint import Checkpoint
from caloforge.checkpoint.pretrained import CARD, PRETRAINED
from caloforge.training import Recipe

NAMES = {
    "auc_low": "classifier AUC, cells",
    "auc_high": "classifier AUC, high-level features",
    "auc_resnet": "classifier AUC, ResNet",
    "fpd": "FPD × 10³",
    "kpd": "KPD × 10³",
    "precision": "precision",
    "recall": "recall",
}


def _scaled(key: str, value: float | None, digits: int = 4) -> str:
    return "" if value is None else f"{value * (1e3 if key in ('fpd', 'kpd') else 1):.{digits}g}"


def _origin(provenance: dict[str, Any]) -> str:
    """What made the showers of a file, be it split or merged from those of others."""
    if "parts" in provenance:
        return "; ".join(_origin(part) for part in provenance["parts"])
    if isinstance(provenance.get("source"), dict):
        which = provenance["settings"].get("part")
        return f"{_origin(provenance['source'])}{f', part {which}' if which else ''}"
    if "made_by" in provenance:
        return f"Geant4 by `{provenance['made_by']}`, {provenance.get('showers', '')}"
    if provenance.get("action") == "simulate":
        settings = provenance["settings"]
        return (
            f"{provenance['n_showers']} with Geant4 by `caloforge simulate {settings['detector']['name']}`, "
            f"seed {settings['seed']}, {settings['data']} ({provenance['caloforge']})"
        )
    attributes = provenance.get("attributes", {})
    return f"Geant4 {attributes.get('geant4', '')}, {attributes.get('physics', '')}"


def _changes(recipe: dict[str, Any], other: dict[str, Any], prefix: str = "") -> list[str]:
    """What ``--set`` makes another recipe of one: ``training.epochs=5`` and the like."""
    changes = []
    for key, value in other.items():
        before = recipe.get(key)
        if isinstance(value, dict) and isinstance(before, dict):
            changes += _changes(before, value, f"{prefix}{key}.")
        elif value != before:
            changes.append(f"{prefix}{key}={value}")
    return changes


def changed_in(name: str, recipe: dict[str, Any]) -> list[str]:
    """What ``--set`` makes this recipe of the one of that name."""
    return _changes(Recipe.load(name).to_dict(), recipe)


def card(
    name: str,
    checkpoint: Checkpoint,
    system: Path,
    recipe_name: str,
    teacher: str | None,
    what: str,
    limits: str,
) -> str:
    """The model card of the checkpoint, which is that in the folder ``system`` or its `in_half`."""
    recipe, valid, made = checkpoint.recipe, checkpoint.valid_range, checkpoint.provenance
    comparison = read_comparison(system.parent / "comparison")
    (measured,) = (model for model in comparison.models if model.name == system.name)
    metrics = "\n".join(
        f"| {label} | {_scaled(key, e.value)} ± {_scaled(key, e.error or 0, 2)} | {_scaled(key, e.floor)} |"
        for key, label in NAMES.items()
        if (e := measured.metrics.get(key)) is not None
    )
    timed = json.loads(system.with_suffix(".json").read_text())
    speed = "\n".join(
        f"| ms a shower, one thread, batch {row['batch_size']} | {row['processor_ms']:.3g} "
        f"(Geant4 {timed['geant4']['ms']:.0f} in the same run) | |"
        for row in timed["rows"]
    )
    training = recipe["training"]
    length = f"{training['steps']} steps" if "steps" in training else f"{training['epochs']} epochs"
    halved = any(tensor.dtype == torch.float16 for tensor in checkpoint.tensors.values())
    stored = " The network is stored in float16." if halved else ""
    options = " ".join(
        [
            *(f"--set {change}" for change in changed_in(recipe_name, recipe)),
            f"--seed {checkpoint.seed} --out",
        ]
    )
    on_gpu = made["settings"].get("device", "cpu") != "cpu"
    where = "a GPU (steps as CUDA graphs)" if on_gpu else "one processor thread"
    size = training["batch_size"] * training.get("scale", 1)
    commands = [f"caloforge train {recipe_name} showers.h5 {options} {name}"]
    if teacher is not None:
        commands = [
            f"caloforge train {teacher} showers.h5 {options} teacher",
            f"{commands[0]} --teacher teacher",
        ]
    command = "\n    ".join(commands)
    low, high = (f"{e / 1000:.3g}" for e in valid["energy"])
    truth = _origin(made["showers"])
    particles, detectors = ", ".join(valid["particle"]), ", ".join(valid["detector"])
    data = made["fingerprints"]["data"] if "fingerprints" in made else made["data_fingerprint"]
    theta, phi = valid["theta"][0], valid["phi"][0]
    return f"""# {name}

{what}

## Data

{made["n_showers"]} showers of {particles} in {detectors} on a
{checkpoint.mesh}, {low}-{high} GeV, normal incidence, {made["n_training"]} of them
for the weights and the rest for stopping. {truth}.
Energies are divided by the sampling fraction 0.033; cells below 0.01515 MeV are zero.
Fingerprint of the data: {data}.

## Recipe and command

Model `{checkpoint.model_name}`; the whole recipe, with all settings, is in `checkpoint.json`.

    {command}

{length} of batches of {size}, {where}.{stored}
caloforge {made["caloforge"]}, torch {made["packages"]["torch"]}.
Fingerprint of the checkpoint: {checkpoint.fingerprint}.

## Seed

Seed {checkpoint.seed}.

## Metrics

On {comparison.reference_showers} Geant4 showers not used for training, by `caloforge compare` with its
quick classifiers (0.5 is best) and `caloforge bench`:

| metric | value | by chance |
|---|---|---|
{metrics}
{speed}

## Valid range

{particles} of {low} to {high} GeV in {detectors} at θ = {theta:.4f}, φ = {phi:.4f} rad. Anything else is
refused unless extrapolation is asked for.

## Limits

{limits}
"""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name")
    parser.add_argument("system", type=Path)
    parser.add_argument("recipe")
    parser.add_argument("what")
    parser.add_argument("--teacher", help="recipe of the model that it learned from")
    parser.add_argument("--half", metavar="PREFIX", help="store tensors of such names in float16")
    parser.add_argument("--limits", required=True)
    given = parser.parse_args()
    checkpoint = Checkpoint.load(given.system)
    if given.half:
        checkpoint = checkpoint.in_half(given.half)
    text = card(given.name, checkpoint, given.system, given.recipe, given.teacher, given.what, given.limits)
    checkpoint.save(PRETRAINED / given.name, overwrite=True)
    (PRETRAINED / given.name / CARD).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
