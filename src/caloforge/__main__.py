"""``python -m caloforge`` is the ``caloforge`` command."""

from caloforge.cli import main

main()
