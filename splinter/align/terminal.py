"""Text of unknown origin on its way to a terminal: names of tensors, lines of data, parts of paths.

A terminal acts on control characters: ESC or its one-character form U+009B may colour, erase or answer, and bidi
controls show other text than is there. They are shown as Python writes them, `\\x1b`.
"""

from __future__ import annotations

import re

CONTROL = re.compile(
    "[\x00-\x1f\x7f-\x9f"  # C0, DEL, C1
    "\u2028\u2029"  # ends of lines that `splitlines` knows
    "\u202a-\u202e\u2066-\u2069"  # bidi embeddings, overrides and isolates
    "\ud800-\udfff]"  # halves of a pair, which no encoding has
)
CUT = " ... "


def printable(text: str, keep: str = "\n\t") -> str:
    """The text with all that a terminal would act on, or cannot show, as a visible escape.

    Args:
        keep: control characters that stay; "" for what is to stand within a line.
    """
    return CONTROL.sub(lambda found: found[0] if found[0] in keep else _escaped(found[0]), text)


def _escaped(character: str) -> str:
    return ascii(character)[1:-1]  # \x1b, \u202e, \n


def shortened(text: str, limit: int = 300) -> str:
    """A long line without its middle: an error names the place at its start and the way out at its end."""
    if len(text) <= limit:
        return text
    end = (limit - len(CUT)) // 2
    return text[: limit - len(CUT) - end] + CUT + text[-end:]
