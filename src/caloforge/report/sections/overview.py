"""The first screen: verdict, numbers, warnings; and the time a shower takes."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from caloforge.evaluation.differences import worst_features
from caloforge.evaluation.results import Evaluation
from caloforge.evaluation.significance import chance_sigmas
from caloforge.report.html import Markup, bullets, explained, note, scroll, table
from caloforge.report.words import find_verdict
from caloforge.report.words.rows import flagged, number, number_rows, timing_table

__all__ = ["numbers_section", "sigmas_cell", "timing_section", "verdict_section", "warnings_section"]


def verdict_section(evaluation: Evaluation) -> str:
    """What agrees, what does not and what gives the generator away."""
    verdict = evaluation.verdict or find_verdict(evaluation)
    html = [f'<div class="verdict level-{max(verdict.level, -1)}">']
    html.append(f'<p class="headline">{escape(verdict.headline)}</p>')
    if verdict.giveaway:
        html.append(f"<p><strong>What gives it away:</strong> {escape(verdict.giveaway)}</p>")
    columns = [
        f"<div><h3>{title}</h3>{bullets(items, style)}</div>"
        for title, items, style in (
            ("Differs", verdict.differs, "differs"),
            ("Agrees within chance", verdict.agrees, "agrees"),
        )
        if items
    ]
    if columns:
        html.append(f'<div class="sides">{"".join(columns)}</div>')
    if verdict.limits:
        html.append(f'<p class="limits">{escape(verdict.limits)}</p>')
    html.append("</div>")
    warned = len(evaluation.warnings)
    if warned:
        text = "1 warning limits" if warned == 1 else f"{warned} warnings limit"
        html.append(f'<p class="note"><a href="#warnings">{text} these numbers.</a></p>')
    return "\n".join(html)


def sigmas_cell(sigmas: float) -> str:
    """``5.1 σ``, marked where it is more than chance; empty where it is not known."""
    if sigmas != sigmas:
        return ""
    if sigmas in (float("inf"), float("-inf")):
        return Markup('<span class="beyond">∞ ▲</span>') if sigmas > 0 else "−∞"
    text = f"{sigmas:.1f} σ".replace("-", "−") if abs(sigmas) < 100 else f"{'−' if sigmas < 0 else ''}> 100 σ"
    return Markup(f'<span class="beyond">{escape(text)} ▲</span>') if flagged(sigmas) else text


def numbers_section(evaluation: Evaluation) -> str:
    """The numbers that matter, each beside its floor, and the features that differ most."""
    rows = [
        (explained(row.name, row.meaning), row.value, row.floor, sigmas_cell(row.sigmas))
        for row in number_rows(evaluation)
    ]
    head = ("Quantity", "Generated", "By chance, or Geant4", "Beyond chance")
    main = table("The numbers that matter", head, rows, numbers=True, style="big stack")
    html = [
        note(
            "“By chance” is what two samples of these sizes and of one origin give. Errors are one standard "
            "deviation; ▲ marks what lies more than three of them beyond chance."
        ),
        scroll(main, "the numbers that matter"),
    ]
    worst: list[Sequence[str]] = [
        (
            h.label.partition(" [")[0],
            number(h.separation.value),
            f"{number(h.separation.floor)} ± {number(h.separation.floor_std, 2)}",
            sigmas_cell(chance_sigmas(h.separation)),
        )
        for h in worst_features(evaluation)
    ]
    if worst:
        head = ("Feature", "Separation", "By chance", "Beyond chance")
        caption = "The five features that differ most" if len(worst) == 5 else "The features that differ most"
        html.append(scroll(table(caption, head, worst, numbers=True), caption))
    html.append(
        Markup(
            '<p class="note">All numbers, with every bin: <a href="metrics.json">metrics.json</a>. All '
            'figures as PDF (vector) and PNG: <a href="figures/">figures/</a>.</p>'
        )
    )
    return "\n".join(html)


def warnings_section(evaluation: Evaluation) -> str:
    """What limits or spoils the numbers."""
    if not evaluation.warnings:
        return ""
    return f'<div class="warnings" role="note">{bullets(evaluation.warnings)}</div>'


def timing_section(evaluation: Evaluation) -> str:
    """Geant4 against the generator."""
    rows, how = timing_table(evaluation)
    first = table("Generator and Geant4", ("Quantity", "Geant4", "Generator"), rows, numbers=True)
    second = table("How it was measured", ("Condition", "Value"), how)
    return f'<div class="tables"><div>{first}</div><div>{second}</div></div>' + note(
        "Geant4’s time is scaled to the mean incident energy of the generated showers."
    )
