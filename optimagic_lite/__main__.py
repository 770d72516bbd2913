"""Run the command line with ``python -m optimagic_lite``."""

from optimagic_lite.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
