"""``python -m caloforge`` is the ``caloforge`` command: neither imports from the working directory."""

import sys

if not sys.flags.safe_path:
    del sys.path[0]

from caloforge.cli.app import main

main()
