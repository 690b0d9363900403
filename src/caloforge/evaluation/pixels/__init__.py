"""Judging pixel events, and what their background does to signal that it is laid over."""

from caloforge.evaluation.pixels.evaluate import evaluate_events
from caloforge.evaluation.pixels.merging import merged_clusters
from caloforge.evaluation.pixels.signal import Signal, signal_hits

__all__ = ["Signal", "evaluate_events", "merged_clusters", "signal_hits"]
