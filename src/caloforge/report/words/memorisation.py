"""What the comparison with training showers says."""

from __future__ import annotations

from caloforge.evaluation.results import Memorisation
from caloforge.report.words.significance import sigma_text, significance

__all__ = ["memorisation_verdict"]


def memorisation_verdict(result: Memorisation) -> str:
    """Does the generator repeat the showers it was trained on? One plain sentence."""
    nearer, copies, expected = result.nearer, result.copies, result.copies_expected
    if result.significant:
        return (
            f"{copies:,} of {result.counts['generated']:,} generated showers are nearly copies of training "
            f"showers, where about {expected:.1f} would be by chance: the generator repeats what it was "
            "trained on."
        )
    found = significance(nearer.sigmas())
    chance = f"by chance {nearer.floor:.1%} ± {nearer.error:.1%}, {sigma_text(found.sigmas)}"
    share = f"{nearer.value:.1%} ({chance})"
    if found.says == "told apart":
        return (
            f"{share} of the generated showers are nearer to a training shower than to a held-out one: the "
            "generator has partly memorised its training showers, though it makes no copies."
        )
    if found.says == "below chance":
        return (
            f"Only {share} of the generated showers are nearer to a training shower than to a held-out one: "
            "training and held-out showers are not of one kind, so this check says nothing."
        )
    sign = "A hint" if found.says == "hint" else "No sign"
    return (
        f"{sign} of memorisation: {share} of the generated showers are nearer to a training shower than to "
        f"a held-out one, and {copies} are nearly copies, where about {expected:.1f} would be by chance. "
        "Training showers that were turned, mirrored or recombined would not be noticed."
    )
