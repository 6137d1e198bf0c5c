#!/usr/bin/env python3
"""Plant a bug of tests/alignment/planted_*.py in our side, run the step that is about it, and print what it says.

Nothing on disk changes. Without a name, all bugs are listed.

example:
  python scripts/plant.py "tanh gelu for erf" --system splinter
"""

import argparse
import os
import sys
from pathlib import Path

from splinter import runtime

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "alignment"))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", nargs="?", help="the bug, or the beginning of its name")
    parser.add_argument("--system", help="the port to plant it in (default: the first that has it)")
    options = parser.parse_args()
    runtime.tune()
    import planted  # paddle from here on

    bugs = [bug for bug in planted.every() if options.system in (None, bug.system)]
    if options.name is None:
        print("\n".join(f"{bug.system:<24} {bug.step:<15} {bug.name}" for bug in bugs))
        return 0
    found = [bug for bug in bugs if bug.name.startswith(options.name)]
    if not found:
        print(f"plant: no bug is called {options.name!r}; without a name all are listed", file=sys.stderr)
        return 2
    message = told(found[0])
    print(message or f"{found[0].step} did not notice it")
    return 0 if message else 1


def told(bug) -> str:
    """What the step says of a bug, as the suite prints it; '' where it notices nothing."""
    os.environ["SPLINTER_KERNELS"] = "0"  # as in the suite: bugs are planted in the Python that they replace
    import pytest
    from tolerances import row

    from splinter.align import Pair, steps
    from splinter.align.explain import explain
    from splinter.ports import proofs

    port = next(port for port in proofs.load_all() if port.name == bug.system)
    allowed = row(port, bug.step, bug.dtype)
    with pytest.MonkeyPatch.context() as patch:
        bug.plant(patch)
        pair = Pair(port, bug.mode, "tiny", port.checkpoints["tiny"](), bug.dtype)
        alignment = getattr(steps, bug.step)(pair).judge(allowed)
        if alignment.passed:
            return ""
        message = alignment.message()
        if bug.step == "forward" and alignment.first_divergence:
            message += f"\n  {explain(pair, allowed, alignment.first_divergence.name.partition('/')[0]).sentence}"
    return message


if __name__ == "__main__":
    sys.exit(main())
