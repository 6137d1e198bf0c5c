"""`python -m splinter.align.report`."""

from .command import main

if __name__ == "__main__":
    raise SystemExit(main())
