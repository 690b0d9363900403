"""The ``caloforge`` command."""

from caloforge.cli.app import app, main

__all__ = ["app", "main"]
