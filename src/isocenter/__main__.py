"""``python -m isocenter`` is ``isocenter``."""

from isocenter.cli import main

main()
