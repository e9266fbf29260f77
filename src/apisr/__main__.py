"""Run the command line with ``python -m apisr``."""

from apisr.cli import main

if __name__ == "__main__":
    main()
