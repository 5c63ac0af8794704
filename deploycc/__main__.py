"""``python -m deploycc``."""

from deploycc.cli import main

main()
