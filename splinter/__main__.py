"""`splinter` and `python -m splinter`: listens to signals, then imports the command line."""

from __future__ import annotations

import sys

from . import stopping


def main() -> int:
    """Entry point; returns the exit code, see `cli.main`."""
    stopping.listen()
    with stopping.deferred():  # threads of numpy start deaf, see there
        from .cli import main as cli
    try:
        return cli.main()
    finally:
        stopping.ignore()


if __name__ == "__main__":
    sys.exit(main())
