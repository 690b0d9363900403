"""Recipes, the training loop and adaptation."""

from caloforge.training.adapt import adapt
from caloforge.training.loop import train
from caloforge.training.recipe import Recipe

__all__ = ["Recipe", "adapt", "train"]
