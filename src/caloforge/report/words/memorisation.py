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
            f"{one}s, where about {expected:.1f} would be by chance: the generator repeats what it was "
            "trained on."
        )
    found = significance(nearer.sigmas())
    chance = f"by chance {nearer.floor:.1%} ± {nearer.error:.1%}, {sigma_text(found.sigmas)}"
    share = f"{nearer.value:.1%} ({chance})"
    if found.says == "told apart":
        return (
            f"{share} of the generated {one}s are nearer to a training {one} than to a held-out one: the "
            f"generator has partly memorised its training {one}s, though it makes no copies."
        )
    if found.says == "below chance":
        return (
            f"Only {share} of the generated {one}s are nearer to a training {one} than to a held-out one: "
            f"training and held-out {one}s are not of one kind, so this check says nothing."
        )
    sign = "A hint" if found.says == "hint" else "No sign"
    return (
        f"{sign} of memorisation: {share} of the generated {one}s are nearer to a training {one} than to "
        f"a held-out one, and {copies} are nearly copies, where about {expected:.1f} would be by chance. "
        f"Training {one}s that were turned, mirrored or recombined would not be noticed."
    )
