"""The outcome of an evaluation in words, computed from its numbers.

Nothing is said to agree only because nothing was seen: sentences of agreement give the size of the effect
that would have been noticed, and where even a poor generator would pass, the verdict is that nothing can be
said.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from caloforge.evaluation.comparison.ranking import is_quality, metrics_of
from caloforge.evaluation.differences import classifier_auc, noticeable_auc, strongest_shift, worst_features
from caloforge.evaluation.results import Evaluation, Significance, Verdict
from caloforge.evaluation.significance import SIGMAS
from caloforge.report.words.finding import Finding
from caloforge.report.words.findings import find_all
from caloforge.report.words.judges import classifier_findings, how_it_differs
from caloforge.report.words.significance import sigma_text, significance
from caloforge.report.words.text import classifier_title, feature_words, number, percent, raised

__all__ = ["find_verdict"]

TOO_FEW = 200
"""Showers of one sample below which nothing is concluded from the absence of differences."""
CLOSE, VISIBLE = 0.65, 0.85
"""AUCs up to which a generator is close to the reference, or visibly different from it."""


def find_verdict(evaluation: Evaluation, others: Sequence[Finding] = ()) -> Verdict:
    """What agrees, what does not, and what gives the generator away.

    The level follows the strongest significant difference: the AUC of a classifier, or the AUC that a single
    feature alone would give. A classifier or another single number hints at a difference from two standard
    deviations on, and differs from three on; among the hundreds of features those are named that
    `beyond_chance` names. Where nothing differs, but an AUC of 0.65 could not have been seen, or a sample has
    fewer than 200 showers, the level is −1. A difference that was seen in few showers is a difference all the
    same. ``others`` are findings from elsewhere, such as a comparison's, which count as much.
    """
    findings = [*others, *find_all(evaluation)]
    differs = [finding for finding in findings if finding.differs]
    visible, sensitivity = _limits(evaluation)
    counts = evaluation.counts
    fewest = min(counts["reference"], counts["generated"])
    if differs:
        strongest = max(finding.auc for finding in differs)
        level = 1 if strongest < CLOSE else 2 if strongest < VISIBLE else 3
    else:
        level = -1 if fewest < TOO_FEW or not visible < CLOSE else 0
    limits = [sensitivity] if sensitivity else []
    if level == -1:
        poorer = "reference" if counts["reference"] <= counts["generated"] else "generated"
        text = f"{number(fewest)} {poorer} showers say little: a poor generator would pass as well."
        limits.insert(0, text)
    elif fewest < TOO_FEW:
        limits.insert(0, f"The smaller sample has only {number(fewest)} showers.")
    return Verdict(
        level=level,
        headline=_headline(level, evaluation, findings),
        agrees=[] if level == -1 else [f.text for f in findings if not f.differs and not f.hint],
        differs=[finding.text for finding in differs],
        hints=[finding.text for finding in findings if finding.hint],
        significance=_significance(evaluation),
        giveaway=_giveaway(evaluation) or _first_culprit(evaluation, differs),
        limits=" ".join(limits),
    )


def _headline(level: int, evaluation: Evaluation, findings: list[Finding]) -> str:
    differs = [finding for finding in findings if finding.differs]
    hints = [finding.hint for finding in findings if finding.hint]
    reference, generated = evaluation.counts["reference"], evaluation.counts["generated"]
    with_showers = f"with {number(generated)} generated and {number(reference)} reference showers"
    if level == -1:
        return f"Too few showers to judge: nothing can be told apart {with_showers}."
    if all(finding.repeats for finding in differs):
        how = "" if evaluation.classifiers else "by single features "
        text = f"Not told apart from Geant4 {how}{with_showers}"
        if hints:
            some = "a hint" if len(hints) == 1 else f"{len(hints)} hints"
            text += f", with {some} of a difference, up to {sigma_text(max(hints))}"
        return f"{text}, but the generated showers are not new." if differs else f"{text}."
    found = {
        1: "Close to Geant4, but told apart from it",
        2: "Visibly different from Geant4",
        3: "Easily told apart from Geant4",
    }
    return f"{found[level]} {with_showers}."


def _significance(evaluation: Evaluation) -> dict[str, Significance]:
    """Of the single numbers whose floor is known; features are judged together, by `beyond_chance`."""
    found = {
        key: significance(estimate.sigmas())
        for key, estimate in metrics_of(evaluation).items()
        if is_quality(key)
        and math.isfinite(estimate.floor_error)
        and not key.startswith(("separation_", "worst_"))
    }
    return {key: known for key, known in found.items() if known.says != "not known"}


def _limits(evaluation: Evaluation) -> tuple[float, str]:
    """The smallest AUC that would have been noticed (NaN if unknown), and a sentence on what would not."""
    network, single = noticeable_auc(evaluation)
    texts = []
    if math.isfinite(network):
        train = min(result.showers[0] for result in evaluation.classifiers.values())
        texts.append(
            f"an AUC below {network:.3f} (networks that saw {number(train)} showers of each sample also "
            "overlook subtle faults)"
        )
    if math.isfinite(single):
        texts.append(f"a feature that alone gives an AUC below {single:.3f}")
    if not texts:
        return math.nan, ""
    seen = min(auc for auc in (network, single) if math.isfinite(auc))
    return seen, f"Too small to be seen here: {'; '.join(texts)}."


def _first_culprit(evaluation: Evaluation, differs: list[Finding]) -> str:
    """The first difference that says more than that a classifier sees one."""
    known = set(classifier_findings(evaluation))
    return next((finding.text for finding in differs if finding not in known), "")


def _giveaway(evaluation: Evaluation) -> str:
    """The feature (else the place) that tells most, and the input that the best classifier relies on."""
    texts = []
    for histogram in worst_features(evaluation, 1):
        separation, compared = histogram.separation, evaluation.features.get(histogram.name)
        how = how_it_differs(compared) if compared is not None else ""
        texts.append(
            f"the {feature_words(histogram.name, [histogram])}{': ' + how if how else ''} (separation power "
            f"{number(separation.value)}, chance {number(separation.floor)})"
        )
    shift = strongest_shift(evaluation)
    if shift is not None and not texts:
        given = ", given all other layers" if shift.kind == "layer" else ""
        texts.append(f"the mean energy of {shift.name}: {percent(shift.relative, shift.error)}{given}")
    judged = [r for r in evaluation.classifiers.values() if r.diagnosis is not None and r.diagnosis.features]
    for result in sorted(judged, key=lambda r: -r.auc)[:1]:
        share = result.diagnosis.features[0] if result.diagnosis else None
        sure = classifier_auc(result).sigmas() >= SIGMAS
        if share is None or not sure or share.drop <= SIGMAS * share.error:
            continue
        texts.append(
            f"the classifier of {classifier_title(result.name)} relies most on the "
            f"{feature_words(share.name, evaluation.histograms)} (AUC falls by {share.drop:.3f} ± "
            f"{share.error:.3f} without it)"
        )
    text = "; ".join(texts)
    return f"{raised(text)}." if text else ""
