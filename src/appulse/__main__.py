"""`python -m appulse`."""

from .cli import main

main()
