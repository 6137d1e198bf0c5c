"""A badge as SVG: two words side by side, drawn here so that no service is needed to show one."""

from html import escape

COLORS = {"brightgreen": "#2da44e", "yellow": "#bf8700", "red": "#cf222e", "lightgrey": "#6e7781"}
NARROW, WIDE = set("fijlrt.,:;'|!()[] "), set("mwMW@%")


def width(text: str) -> float:
    """Of a text in 11 px Verdana, about; `textLength` makes it so."""
    return sum(4.2 if c in NARROW else 10.0 if c in WIDE else 6.9 for c in text)


def draw(badge: dict) -> str:
    """The SVG of a shields.io endpoint object: label on grey, message on the colour of the verdict."""
    parts, x = [], 0.0
    for text, color in ((badge["label"], "#444c56"), (badge["message"], COLORS[badge["color"]])):
        inner = width(text)
        parts.append(f'<rect x="{x:.1f}" width="{inner + 12:.1f}" height="20" fill="{color}"/>')
        place = f'x="{x + 6:.1f}" y="14" textLength="{inner:.1f}" lengthAdjust="spacingAndGlyphs"'
        parts.append(f"<text {place}>{escape(text)}</text>")
        x += inner + 12
    words = escape(f"{badge['label']}: {badge['message']}")
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{x:.1f}" height="20" role="img" aria-label="{words}">'
        f'<title>{words}</title><clipPath id="r"><rect width="{x:.1f}" height="20" rx="3"/></clipPath>'
        '<g clip-path="url(#r)" fill="#fff" font-family="Verdana,DejaVu Sans,sans-serif" font-size="11">'
        f"{''.join(parts)}</g></svg>\n"
    )
