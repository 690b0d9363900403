"""Recipes, the training loop and checkpoints."""

from caloforge.training.adapt import adapt
from caloforge.training.checkpoint import Checkpoint
from caloforge.training.loop import train
from caloforge.training.recipe import Recipe

__all__ = ["Checkpoint", "Recipe", "adapt", "train"]
