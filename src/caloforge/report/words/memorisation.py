"""What the comparison with training showers says."""

from __future__ import annotations

from caloforge.evaluation.results import Memorisation
from caloforge.report.words.significance import sigma_text, significance

__all__ = ["memorisation_verdict"]


def memorisation_verdict(result: Memorisation, one: str = "shower") -> str:
    """Does the generator repeat the showers (or what ``one`` is) it was trained on? One plain sentence."""
    nearer, copies, expected = result.nearer, result.copies, result.copies_expected
    if result.significant:
        return (
            f"{copies:,} of {result.counts['generated']:,} generated {one}s are nearly copies of training "
            f"{one}s (chance {expected:.1f}): the generator repeats what it was trained on."
        )
    found = significance(nearer.sigmas())
    chance = f"chance {nearer.floor:.1%} ± {nearer.error:.1%}, {sigma_text(found.sigmas)}"
    share = f"{nearer.value:.1%} of generated {one}s ({chance})"
    near = f"nearer to a training than to a held-out {one}"
    if found.says == "told apart":
        return (
            f"{share} are {near}: the generator has partly memorised its training {one}s, though it makes no "
            "copies."
        )
    if found.says == "below chance":
        return (
            f"Only {share} are {near}: training and held-out {one}s are not of one kind, so this check says "
            "nothing."
        )
    sign = "A hint" if found.says == "hint" else "No sign"
    return (
        f"{sign} of memorisation: {share} are {near}, {copies} nearly copies (chance {expected:.1f}). "
        f"Turned, mirrored or recombined training {one}s would not be noticed."
    )
