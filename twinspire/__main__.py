"""`python -m twinspire` is the command `twinspire`."""

from twinspire.cli import main

main()
