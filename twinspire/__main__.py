"""`python -m twinspire` is the command `twinspire`."""

from twinspire.cli.main import main

if __name__ == "__main__":
    main()
