"""`python -m mace_tp` is `mace-tp`."""

from mace_tp.cli.main import main

if __name__ == "__main__":
    main()
