"""alignment.json -> one HTML page, badges for shields.io, and a matrix for the terminal.

Every result here is a pure function of the JSON that `--align-json` wrote; only `write` and `main` touch files, and
only the page needs jinja2. A result without proof is never green: a skip is grey, and a pass that compared nothing
counts as a failure.

    python -m splinter.align.report alignment.json --out report --badges badges
"""

import argparse
import io
import json
import math
import re
import sys
import textwrap
from collections import Counter
from importlib import resources
from pathlib import Path

from .badge import draw
from .files import write_whole
from .kill import table as killed_by_step
from .kill import tally
from .record import CELLS, EVIDENCE, ReportError, check, clean, contradiction, read, verdict
from .steps import STEPS
from .terminal import printable, shortened

# Judging


def badge(alignment, step):
    """
    The shields.io endpoint object of one step.

    red: any failed. yellow: any expected failure, or a planted bug that survived. brightgreen: every system and mode
    that has this step passed it at least once. lightgrey: all else, since a skip is no proof, and a run that was
    interrupted none of what it did not come to.

    Raises:
        ValueError: `step` is none of STEPS.
    """
    if step not in STEPS:
        raise ValueError(f"no step {step!r}; the steps are {', '.join(STEPS)}")
    results = [result for result in alignment["results"] if result["step"] == step]
    verdicts = Counter(verdict(result) for result in results)
    systems = {(result["system"], result["mode"]) for result in results}
    proven = {(result["system"], result["mode"]) for result in results if verdict(result) == "passed"}
    if verdicts["failed"]:
        color = "red"
    elif verdicts["xfailed"]:
        color = "yellow"
    else:
        whole = results and proven == systems and not alignment.get("interrupted")
        color = "brightgreen" if whole else "lightgrey"
    message = "skipped" if set(verdicts) == {"skipped"} else counted(verdicts) or "not run"
    message += ", interrupted" if alignment.get("interrupted") else ""
    for row in killed_by_step(alignment.get("kills") or []):
        if row["step"] == step:
            message += f", kills {row['killed']}/{row['planted']}"
            color = "yellow" if color == "brightgreen" and row["killed"] < row["planted"] else color
    return {"schemaVersion": 1, "label": f"align: {step}", "message": message, "color": color}


def counted(verdicts):
    """Counter of verdicts -> 'passed 4, skipped 2'; '' for none."""
    order = ("failed", "passed", "xfailed", "skipped")
    return ", ".join(f"{name} {verdicts[name]}" for name in order if verdicts[name])


def overall(alignment):
    """(verdict, sentence) of the whole file: as good as its worst badge."""
    colors = {step: badge(alignment, step)["color"] for step in STEPS}
    counts = counted(Counter(verdict(result) for result in alignment["results"])) or "no results"
    unproven = [step for step in STEPS if colors[step] == "lightgrey"]
    if "red" in colors.values():
        return "failed", f"Not aligned: {counts}"
    if len(unproven) == len(STEPS):
        return "skipped", f"Nothing proven: {counts}"
    if unproven:
        counts += f"; not proven: {', '.join(unproven)}"
    known_gaps = any(verdict(result) == "xfailed" for result in alignment["results"])
    if "yellow" in colors.values():
        what = "known gaps" if known_gaps else "planted bugs that the step about them did not notice"
        return "xfailed", f"{'Incomplete, with' if unproven else 'Aligned up to'} {what}: {counts}"
    return ("skipped", f"Incomplete: {counts}") if unproven else ("passed", f"Aligned: {counts}")


def matrix(alignment, width=100):
    """Plain text, at most `width` columns: a row per system and mode, a column per step, as grave as its worst."""
    heads = [{"optimizer": "optim", "regularization": "regular"}.get(step, step) for step in STEPS]
    rows: dict = {}
    for result in alignment["results"]:
        row = rows.setdefault(printable(f"{result['system']} {result['mode']}", keep=""), {})
        row.setdefault(result["step"], set()).add(verdict(result))
    heads = [head.ljust(len(CELLS["xfailed"])) for head in heads]
    label_width = 15
    if label_width + sum(len(head) + 1 for head in heads) > width:  # a narrow terminal: numbers for names, and a key
        key = ", ".join(f"{place} {step}" for place, step in enumerate(STEPS, 1))
        heads = [str(place).ljust(len(CELLS["xfailed"])) for place in range(1, len(STEPS) + 1)]
    else:
        key = ""
    lines = [" ".join([" " * label_width, *heads])]
    for label, row in rows.items():
        cells = []
        for step, head in zip(STEPS, heads, strict=True):
            word = next((CELLS[name] for name in CELLS if name in row.get(step, ())), "-")
            cells.append(word.ljust(len(head)))
        if len(label) > label_width:  # a long name gets a line of its own rather than lose its end
            lines.append(cut(label, width))
            label = ""
        lines.append(f"{label:<{label_width}} {' '.join(cells)}")
    lines += textwrap.wrap(key, width)
    return "\n".join(line.rstrip() for line in [*lines, cut(overall(alignment)[1], width)]) + "\n"


def kill_table(kills, floors=()):
    """Plain text, at most 100 columns: what each step killed, then the smallest errors that are still noticed."""
    counts = tally(kills)
    lines = ["step           planted  killed  first  narrowest kill"]
    for row in killed_by_step(kills):
        margin = "" if row["margin"] is None else f"{number(row['margin'])} times its limit: {row['narrowest']}"
        lines.append(cut(f"{row['step']:<14} {row['planted']:>7} {row['killed']:>7} {row['first']:>6}  {margin}"))
    total = len(kills)
    killed = f"{total - counts['survived']} of {total} killed"
    lines.append(f"{killed}, {counts['first']} by the step that is about them and by none before it")
    for word in ("survived", "training", "elsewhere"):
        lines += [cut(f"{word}: {kill['system']}: {kill['bug']}") for kill in kills if kill["verdict"] == word]
    if floors:
        lines += ["", "smallest error that a step notices"]
        lines += [
            printable(f"{one['step']:<14} {one['system']:<10} {one['dtype']:<8} ", keep="")
            + printable(f"{number(one['smallest']):>8}  {one['what']}", keep="")
            for one in floors
        ]
    return "\n".join(lines) + "\n"


def cut(text, width=100):
    """One line of a terminal, whatever the names in it hold."""
    text = printable(text, keep="")
    return text if len(text) <= width else text[: width - 3] + "..."


# Words and numbers


def number(value):
    """3.1e-06 -> '3.1e-6'; None -> '-'. Three significant digits; nan and infinity stay visible."""
    if value is None:
        return "-"
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return str(value)
    if isinstance(value, int):
        return f"{value:,}"
    if 1000 <= abs(value) < 1e9:
        return f"{value:,.0f}"
    text = f"{value:.3g}".replace("inf", "∞")
    return re.sub(r"e([+-])0*", lambda match: "e" + match[1].strip("+"), text)


def shape(value):
    """[2, 384] -> '(2, 384)', [5] -> '(5)'; anything else as it is."""
    return f"({', '.join(map(str, value))})" if isinstance(value, (list, tuple)) else number(value)


def allowed(result):
    """What the worst tensor was allowed, in words."""
    worst, tolerance = result["worst"] or {}, result["tolerance"] or {}
    for tensor in result.get("tensors") or []:
        if tensor.get("name") == worst.get("tensor") and tensor.get("allowed") is not None:
            return number(tensor["allowed"])
    atol, rtol = tolerance.get("atol"), tolerance.get("rtol")
    return f"{number(atol)} + {number(rtol)} x |theirs|" if rtol else number(atol)


def worst_sentence(result):
    """'max abs 3.1e-6 at (0, 17, 402) in encoder.3; 12 ULP; 0.9x ...; allowed 2e-5, headroom 6.4.'"""
    worst, tolerance = result["worst"], result["tolerance"] or {}
    if not worst:
        exact = tolerance.get("atol") == 0 and tolerance.get("rtol") == 0 and verdict(result) == "passed"
        return f"All {number(result['values'])} values are equal." if exact else "No worst element recorded."
    place = f" at {shape(worst['index'])}" if worst.get("index") is not None else ""
    place += f" in {worst['tensor']}" if worst.get("tensor") else ""
    largest = worst.get("max_abs")
    parts = ["equal in every value" if largest == 0 else f"max abs {number(largest)}{place}"]
    if worst.get("max_rel"):
        parts.append(f"max rel {number(worst['max_rel'])}")
    if worst.get("ulp"):
        parts.append(f"{number(worst['ulp'])} ULP")
    if worst.get("referee_ratio") is not None:
        parts.append(f"{number(worst['referee_ratio'])}x the reference's own float64 error")
    if tolerance:
        room = f", headroom {number(result['headroom'])}" if result["headroom"] is not None else ""
        parts.append(f"allowed {allowed(result)}{room}")
    sentence = "; ".join(parts)
    return sentence[0].upper() + sentence[1:] + "."


def divergence(result):
    """A sentence on the first tensor that failed, in execution order; '' if none did."""
    for place, tensor in enumerate(result.get("tensors") or [], start=1):
        if tensor.get("passed") is False:
            name, size = tensor.get("name"), shape(tensor.get("shape"))
            seen, limit = number(tensor.get("max_abs")), number(tensor.get("allowed"))
            total = len(result["tensors"])
            return f"First divergence: {name} {size}, tensor {place} of {total}; max abs {seen}, allowed {limit}."
    return ""


def flatten(value, path=""):
    """Nested JSON -> [(dotted path, text)] in order; a list of plain values stays one row."""
    if isinstance(value, dict) and value:
        return [row for key, item in value.items() for row in flatten(item, f"{path}.{key}" if path else key)]
    if isinstance(value, list) and any(isinstance(item, (dict, list)) for item in value):
        return [row for place, item in enumerate(value) for row in flatten(item, f"{path}[{place}]")]
    if isinstance(value, list):
        return [(path, ", ".join(map(str, value)))]
    return [(path, value if isinstance(value, str) else json.dumps(value))]


# Drawing

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 720, 250, 64, 12, 12, 40  # SVG user units


def plot(series, log, mark=None):
    """
    Lay out a line chart; the template only writes it down.

    Args:
        series: {name: values}; value i stands at x = i. None, nan and infinity interrupt the line. On a log scale a
            value of 0 (bit-equal) lies on the bottom edge, labelled 0. Beyond 1e300 nothing is drawn.
        log: logarithmic y axis.
        mark: index to mark with a vertical line, or None.

    Returns:
        None where there is nothing to draw, else a dict of paths, ticks and marks in SVG user units.
    """
    drawable = {name: thin([drawn(value) for value in values]) for name, values in series.items()}
    numbers = [value for points in drawable.values() for _, value in points if value is not None]
    scaled = [math.log10(value) if log else value for value in numbers if value > 0 or not log]
    if not scaled:
        return None
    has_zero = log and len(scaled) < len(numbers)
    ticks = decades(min(scaled), max(scaled)) if log else even_ticks(min(scaled), max(scaled))
    low, high = ticks[0], ticks[-1]
    if has_zero:
        low -= max(1.0, (high - low) / 6)  # below the smallest power of ten, where no positive value can be
    last = max(len(values) for values in series.values()) - 1

    def x(place):
        return LEFT + (WIDTH - LEFT - RIGHT) * (place / last if last else 0.5)

    def y(height):
        return TOP + (HEIGHT - TOP - BOTTOM) * (high - height) / (high - low)

    def height(value):
        return (math.log10(value) if value > 0 else low) if log else value

    lines = []
    for name, points in drawable.items():
        path, dots, pen = [], [], "M"
        for place, value in points:
            if value is None:
                pen = "M"
                continue
            spot = f"{x(place):.1f} {y(height(value)):.1f}"
            path.append(pen + spot + ("h0" if pen == "M" else ""))
            dots.append(f"M{spot}h0")  # a line of length 0 with round caps is a dot
            pen = "L"
        gaps = sum(1 for value in series[name] if drawn(value) is None)
        lines.append({"name": name, "path": "".join(path), "dots": "".join(dots if last < 60 else []), "gaps": gaps})
    labels = [(y(tick), f"1e{tick:.0f}" if log else f"{tick:.10g}") for tick in ticks]
    if has_zero:
        labels.insert(0, (y(low), "0"))
    columns = sorted({round(last * quarter / 4) for quarter in range(5)})
    return {
        "lines": lines,
        "y": [(f"{spot:.1f}", text) for spot, text in labels],
        "x": [(f"{x(place):.1f}", place + 1) for place in columns],
        "mark": None if mark is None else f"{x(mark):.1f}",
        "edges": (LEFT, WIDTH - RIGHT, TOP, HEIGHT - BOTTOM),
        "size": (WIDTH, HEIGHT),
    }


DRAWN = 1e300
"""Numbers up to here have a place on a page: the span between two of them, and a tick beyond, are finite."""


def drawn(value):
    """A number that can be drawn, as a float; all else as None."""
    value = clean(value)
    return float(value) if value is not None and abs(value) <= DRAWN else None


def thin(values, limit=1200):
    """[(index, value)]; long series keep the least and the greatest of each stretch, so no peak is lost."""
    points = list(enumerate(values))
    if len(points) <= limit:
        return points
    width = math.ceil(2 * len(points) / limit)
    kept = []
    for start in range(0, len(points), width):
        solid = [point for point in points[start : start + width] if point[1] is not None]
        lowest, highest = (pick(solid, key=lambda point: point[1], default=(start, None)) for pick in (min, max))
        extremes = {lowest, highest}
        kept += sorted(extremes)
    return kept


def decades(low, high):
    """Whole powers of ten around [low, high] (exponents), seven ticks at most."""
    first, last = math.floor(low), max(math.ceil(high), math.floor(low) + 1)
    stride = math.ceil((last - first) / 6)
    return list(range(first, last + stride, stride))


def even_ticks(low, high):
    """Multiples of 1, 2 or 5 times a power of ten around [low, high], about five."""
    size = max(abs(low), abs(high))
    span = high - low
    if span <= max(1e-12 * size, 1 / DRAWN):  # a constant, but for less than a line is wide
        span = size if size > 1 / DRAWN else 1.0
    power = 10.0 ** math.floor(math.log10(span / 4))
    stride = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= span / 4)
    first, last = math.floor(low / stride), math.ceil(high / stride)
    return [place * stride for place in range(first, max(last, first + 1) + 1)]


# The page


def render(alignment, baseline=None):
    """
    The whole HTML page, without any external resource.

    Args:
        baseline: an earlier alignment; what is worse than there is marked.

    Raises:
        ReportError: `alignment` or `baseline` is not schema 1, or jinja2 is missing.
    """
    try:
        import jinja2  # here: the matrix of the terminal does without
    except ImportError:
        raise ReportError("the page needs jinja2; in a clone: pip install -e '.[align]'") from None
    check(alignment)
    if baseline is not None:
        check(baseline)
    earlier = {case(result): result for result in (baseline or {"results": []})["results"]}
    details = [
        {**detail(place, result), "worse": worse(result, earlier.get(case(result)))}
        for place, result in enumerate(alignment["results"])
    ]
    rows: dict = {}
    for item in details:
        row = rows.setdefault((item["system"], item["mode"], item["checkpoint"]), {})
        row.setdefault(item["step"], []).append(item)
    # a checkpoint that nothing was asked of is said once, not in every cell of a row
    ran = {key: row for key, row in rows.items() if any(i["verdict"] != "skipped" for one in row.values() for i in one)}
    idle = [" ".join(key) for key in rows if key not in ran] if ran else []
    rows = ran or rows
    sections: dict = {}
    for item in details:
        sections.setdefault((item["system"], item["mode"]), []).append(item)
    for items in sections.values():
        items.sort(key=lambda item: STEPS.index(item["step"]))  # stable: file order within a step
    environment = alignment["environment"]
    dates = (environment.get(key) for key in ("date", "created", "timestamp", "time"))
    state, sentence = overall(alignment)
    page = resources.files(__package__).joinpath("report.html.jinja").read_text(encoding="utf-8")
    engine = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    engine.filters.update(number=number, shape=shape)
    return engine.from_string(page).render(
        state=state,
        sentence=sentence,
        date=next(filter(None, dates), ""),
        steps=STEPS,
        cells=CELLS,
        badges={step: badge(alignment, step) for step in STEPS},
        rows=rows,
        idle=idle,
        sections=sections,
        failures=[item for item in details if item["verdict"] == "failed"],
        worsened=[item for item in details if item["worse"]],
        gone=[" ".join(key) for key in earlier.keys() - {case(r) for r in alignment["results"]}],
        compared=baseline is not None,
        environment=flatten(environment) if environment else [],
        kills=kill_section(alignment.get("kills") or []),
        floors=alignment.get("floors") or [],
        seconds=sum(result["seconds"] for result in alignment["results"]),
        values=sum(result["values"] for result in alignment["results"]),
    )


def widest(tensors, limit=100):
    """The failed tensors and those with the largest relative differences, in execution order; a page has its size."""
    if len(tensors) <= limit:
        return tensors

    def rank(place):
        seen = clean(tensors[place].get("max_rel"))
        return tensors[place].get("passed") is not False, -(seen or 0.0), place

    return [tensors[place] for place in sorted(sorted(range(len(tensors)), key=rank)[:limit])]


def case(result):
    """What a result is of; the same in two files are comparable."""
    return tuple(result[key] for key in ("system", "mode", "step", "checkpoint", "dtype"))


def worse(result, earlier, factor=1.5):
    """In what a result is worse than an earlier one, or ''. Less than half as much again is rounding's own affair."""
    if earlier is None:
        return ""
    grave = list(CELLS)  # from the gravest
    now, then = verdict(result), verdict(earlier)
    if grave.index(now) < grave.index(then) or (now, then) == ("skipped", "passed"):
        return f"{now}, was {then}"
    row, before = result["tolerance"] or {}, earlier["tolerance"] or {}
    for name in ("atol", "rtol", "ratio"):
        if clean(row.get(name)) is not None and clean(before.get(name)) is not None and row[name] > before[name]:
            return f"{name} {number(row[name])}, was {number(before[name])}"
    if result["headroom"] and earlier["headroom"] is None and now == then == "passed":
        return f"headroom {number(result['headroom'])}, was equal in every bit"
    if result["headroom"] and earlier["headroom"] and result["headroom"] * factor < earlier["headroom"]:
        return f"headroom {number(result['headroom'])}, was {number(earlier['headroom'])}"
    if now == "passed" and result["values"] < earlier["values"]:
        return f"{number(result['values'])} numbers compared, were {number(earlier['values'])}"
    return ""


def kill_section(kills):
    """What the template reads of the kill matrix, or None: a sentence, a row per step, a row per bug by system."""
    if not kills:
        return None
    counts = tally(kills)
    systems: dict = {}
    for kill in kills:
        strikes = {strike["step"]: strike for strike in kill["strikes"]}
        systems.setdefault(kill["system"], []).append({**kill, "strikes": strikes})
    return {
        "sentence": f"{len(kills) - counts['survived']} of {len(kills)} planted bugs were killed, "
        f"{counts['first']} of them by the step that is about them and by none before it.",
        "counts": counts,
        "steps": killed_by_step(kills),
        "systems": systems,
    }


def detail(place, result):
    """One result as the template reads it."""
    tensors = result.get("tensors") or []
    errors = {}
    for side in ("theirs", "ours"):
        values = [tensor.get(f"{side}_error") for tensor in tensors]
        if any(value is not None for value in values):
            errors[side] = values
    shown = widest(tensors)
    first_bad = next((index for index, tensor in enumerate(tensors) if tensor.get("passed") is False), None)
    curves = {}
    for name, pair in (result.get("curves") or {}).items():
        curves[name] = plot({side: pair[side] for side in ("theirs", "ours") if pair.get(side)}, log=False)
    return {
        **result,
        "id": f"r{place}",
        "verdict": verdict(result),
        "reason": "; ".join(text for text in (contradiction(result), result["reason"]) if text),
        "worst_sentence": worst_sentence(result),
        "divergence": divergence(result),
        "tensors": shown,
        "left_out": len(tensors) - len(shown),
        "bad": sum(1 for tensor in tensors if tensor.get("passed") is False),
        "errors": plot(errors, log=True, mark=first_bad),
        "curves": {name: drawing for name, drawing in curves.items() if drawing},
    }


# Files


def write(alignment_json, folder, badges=None, kill_json=None, baseline_json=None):
    """
    Write folder/index.html and, where `badges` names a folder, badges/STEP.json and STEP.svg for all eleven steps.

    Nothing is written unless everything could be made; each file then appears whole or not at all.

    Args:
        alignment_json: what `--align-json` wrote.
        folder: made if missing.
        badges: made if missing; None writes no badges.
        kill_json: what `--kill-matrix --align-json` wrote; None: the report says nothing of planted bugs.
        baseline_json: an earlier alignment.json to compare with.

    Returns:
        Path of the HTML page.

    Raises:
        ReportError: the input cannot be used; names file and line.
    """
    alignment = read(alignment_json)
    if kill_json is not None:
        killed = read(kill_json)
        alignment |= {key: killed.get(key, []) for key in EVIDENCE}
    page = Path(folder) / "index.html"
    files = {page: render(alignment, None if baseline_json is None else read(baseline_json))}
    if badges is not None:
        for step in STEPS:
            made = badge(alignment, step)
            files[Path(badges) / f"{step}.json"] = json.dumps(made, indent=2) + "\n"
            files[Path(badges) / f"{step}.svg"] = draw(made)
    for path, text in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        # JSON may smuggle in half a surrogate pair, which UTF-8 cannot hold
        write_whole(path, lambda file, text=text: file.write(text.encode("utf-8", errors="replace")))
    return page


def main(argv=None):
    """The command line. Returns the exit code: 0 written, 2 bad input or no place to write."""
    parser = argparse.ArgumentParser(
        prog="python -m splinter.align.report",
        description="Turn the alignment.json of `pytest --align-json` into an HTML page and badges.",
        epilog="Exit code 0 says that the report was written, not that all steps passed; 2: input or output unusable.",
    )
    parser.add_argument("alignment", type=Path, help="the file that pytest --align-json=FILE wrote")
    parser.add_argument("--out", type=Path, default=Path("report"), help="folder for index.html (default: %(default)s)")
    parser.add_argument(
        "--badges",
        type=Path,
        help="folder for STEP.json, shields.io endpoints, and STEP.svg (default: none written)",
    )
    parser.add_argument("--baseline", type=Path, help="an earlier alignment.json; what is worse now is marked")
    parser.add_argument("--kills", type=Path, help="the file that pytest --kill-matrix --align-json=FILE wrote")
    args = parser.parse_args(argv)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # not in tests
            stream.reconfigure(errors="backslashreplace")  # an ASCII terminal lacks most names
    try:
        page = write(args.alignment, args.out, args.badges, args.kills, args.baseline)
        alignment = read(args.alignment)
        print(matrix(alignment | ({"kills": read(args.kills).get("kills", [])} if args.kills else {})), end="")
    except ReportError as error:
        print(f"report: {shortened(printable(str(error), keep=''))}", file=sys.stderr)
        return 2
    except OSError as error:
        print(printable(f"report: cannot write {error.filename}: {error.strerror}"), file=sys.stderr)
        return 2
    print(printable(f"wrote {page}" + (f" and {len(STEPS)} badges in {args.badges}" if args.badges else "")))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
