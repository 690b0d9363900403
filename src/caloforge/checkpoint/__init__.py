"""Checkpoints, and the trained models that come with caloforge."""

from caloforge.checkpoint.checkpoint import Checkpoint

__all__ = ["Checkpoint"]
