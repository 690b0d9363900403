"""A model of many detectors for one that it was not trained on, of which there is only a description."""

from __future__ import annotations

from caloforge.checkpoint.checkpoint import Checkpoint
from caloforge.data.conditions import merged_ranges
from caloforge.detector.detector import Detector
from caloforge.errors import CheckpointError
from caloforge.models.trainable import load_trainable_class

__all__ = ["introduces", "with_detector"]


def introduces(checkpoint: Checkpoint) -> bool:
    """True where its model makes showers in detectors of which it has only a description."""
    return load_trainable_class(checkpoint.model_name).introduces


def with_detector(checkpoint: Checkpoint, detector: Detector) -> Checkpoint:
    """The checkpoint with a detector that it was not trained on, for the conditions of all others.

    What is to be said of how sure it is stands in the provenance, under "introduced".

    Raises:
        CheckpointError: it has another number of cells, or a detector of that name on other cells.
        DetectorError: its description does not suffice.
        RecipeError: the model makes showers only in detectors that it was trained on.
    """
    name, mesh, own = detector.name, detector.mesh, checkpoint.mesh
    if name in checkpoint.detectors:
        checkpoint.require_mesh(mesh, f"the detector {name}, whose name the checkpoint knows,", name)
        return checkpoint
    if (mesh.kind, mesh.frame, mesh.shape) != (own.kind, own.frame, own.shape):
        raise CheckpointError(
            f"{name} is read out on a {mesh} in the {mesh.frame}'s frame, but {checkpoint.name} makes "
            f"showers on a {own} in the {own.frame}'s frame; cells may be of other sizes, but not of another "
            "number"
        )
    model = checkpoint.network()
    sure = model.introduce(detector)
    ranges = {known: checkpoint.range_of(known) for known in checkpoint.detectors}
    found = dict(checkpoint.valid_range) | {"detector": [name]}
    low, high = found["theta"]
    if low <= detector.normal_theta <= high:
        first, last = found["phi"]
        found["usual"] = {
            "particle": str(found.get("usual", {}).get("particle", found["particle"][0])),
            "theta": detector.normal_theta,
            "phi": min(max(0.0, first), last),
        }
    ranges[name] = found
    introduced = checkpoint.provenance.get("introduced", {}) | {
        name: {"detector": detector.to_dict(), "sure": sure}
    }
    return Checkpoint.from_model(
        model,
        checkpoint.model_name,
        merged_ranges(list(ranges.values())),
        valid_ranges=ranges,
        recipe=checkpoint.recipe,
        provenance=checkpoint.provenance | {"introduced": introduced},
        seed=checkpoint.seed,
        metrics=checkpoint.metrics,
        path=checkpoint.path,
    )
