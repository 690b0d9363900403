"""``python -m caloforge`` is the ``caloforge`` command."""

from caloforge.cli.app import main

main()
