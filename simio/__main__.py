"""``python -m simio``."""

from simio.cli import main

main()
