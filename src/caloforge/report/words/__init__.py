"""Every sentence about results: verdicts, warnings, comparisons, and tables for the terminal."""

from __future__ import annotations

from caloforge.report.words.in_words import in_words
from caloforge.report.words.memorisation import memorisation_verdict
from caloforge.report.words.summary import summary
from caloforge.report.words.verdict import find_verdict
from caloforge.report.words.warnings import find_warnings

__all__ = ["find_verdict", "find_warnings", "in_words", "memorisation_verdict", "summary"]
