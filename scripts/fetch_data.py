#!/usr/bin/env python3
"""Download data files from their official source into the cache; each must have the known sha256.

example:
  python scripts/fetch_data.py squad_v1/dev-v1.1.json
"""

import argparse
import sys

from splinter import datasets


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=list(datasets.DOWNLOADS), help="default: all that are known")
    for name in parser.parse_args().names:
        try:
            print(datasets.fetch(name))
        except OSError as error:
            print(f"fetch_data: {name}: {error}", file=sys.stderr)
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
