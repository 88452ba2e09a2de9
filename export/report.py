"""report.html: sizes, parity and speed of a bundle, and how the model was trained, on one page without a network."""
import html
import math
import pathlib

from kzoo.export.latency import describe_speed
from kzoo.export.report_page import PAGE

MAKINGS = ["artifact", ">arena", ">operators", "*most frequent", "*left by XNNPACK", "*left by the GPU's"]
# As people write the runtimes.
TITLES = {"savedmodel": "SavedModel", "onnx": "ONNX", "tflite": "TFLite", "keras": "Keras",
          "savedmodel-text": "SavedModel with text", "onnx-text": "ONNX with text", "tflite-text": "TFLite with text"}


def render_report(manifest, history=(), samples=()):
    """The page, as text.

    Args:
        manifest: a bundle's manifest with `artifacts` and `files`.
        history: dicts with `step` and some of `loss` and `validation_loss`; drawn as curves.
        samples: dicts with `prompt`, `text` (prompt and continuation) and `source`, what generated it.
    """
    artifacts = manifest["artifacts"]
    sections = [_head(manifest, artifacts), _sizes(manifest, artifacts), _speeds(artifacts), _makings(artifacts),
                _parity(artifacts), _curve(list(history)), _samples(list(samples)), _details(manifest)]
    title = f"{manifest['family']} bundle: {'verified' if _all_passed(artifacts) else 'failed verification'}"
    return PAGE.substitute(title=html.escape(title), body="\n".join(filter(None, sections)))


def _all_passed(artifacts):
    return bool(artifacts) and all(row["verified"] for row in artifacts)


def _head(manifest, artifacts):
    passed = _all_passed(artifacts)
    checks = sum(len(row["verification"].get("rows", ())) for row in artifacts)
    runtimes = list(dict.fromkeys(TITLES.get(row["runtime"], row["runtime"]) for row in artifacts))
    context = manifest["sizes"]["max_sequence_length"]
    facts = [(_counted(manifest["parameters"]), "parameters"), (str(len(artifacts)), "artifacts"),
             (str(checks), "checks"), (f"{context:,}" if context else "any", "tokens of context"),
             (f"{manifest['sizes']['vocabulary_size']:,}", "tokens in the vocabulary")]
    boxes = "".join(f'<div class="fact"><b>{value}</b><span>{label}</span></div>' for value, label in facts)
    verdict = ('<span class="verdict good">&#10003; every artifact verified</span>' if passed
               else '<span class="verdict bad">&#10007; failed verification</span>')
    return (f"<h1>{_text(manifest['family'])} for {_text(manifest['task'])}</h1>"
            f'<p class="soft">One model as {_text(_listed(runtimes))}. Written by kzoo {_text(manifest["kzoo"])}, '
            f'{_text(manifest["created"][:16].replace("T", " "))} UTC.</p>{verdict}<div class="facts">{boxes}</div>')


def _sizes(manifest, artifacts):
    bytes_of = {row["path"]: row["size"] for row in manifest["files"]}
    # Files of the main one's kind; others lie beside it, such as a tokenizer.
    main = {_name(row): sum(bytes_of[name] for name in row["files"]
                            if _suffix(name).startswith(_suffix(row["file"]))) for row in artifacts}
    bars = _bars([(name, size / 1e6, f"{_megabytes(size)} MB") for name, size in main.items()])
    rows = [[_text(_name(row)), f"<code>{_text(row['file'])}</code>", (f"{row.get('seconds') or 0:.0f} s"),
             f"{(row.get('peak_memory') or 0) / 1e9:.1f} GB"] for row in artifacts]
    table = _table(["artifact", "file", ">time to convert", ">peak memory"], rows)
    return f'<h2>Sizes</h2><div class="card">{bars}{table}</div>'


def _speeds(artifacts):
    measured = [row for row in artifacts if row.get("latency")]
    if not measured:
        return ""
    first = measured[0]["latency"]
    measured = [row for row in measured if row["latency"].keys() == first.keys()]  # not the speed of a tokenizer alone
    if "tokens_per_second" in first:
        what = f"Greedy, one prompt of {first['prompt_length']} tokens, {first['new_tokens']} new ones"
        bars = [(_name(row), row["latency"]["tokens_per_second"], describe_speed(row["latency"])) for row in measured]
        columns = ["artifact", ">first token", ">each further token"]
        rows = [[_text(_name(row)), f"{1000 * row['latency']['first_token_seconds']:.1f} ms",
                 f"{1000 / row['latency']['tokens_per_second']:.2f} ms"] for row in measured]
    else:
        what = f"One text of {first['text_length']} tokens at a time; shorter is better"
        bars = [(_name(row), row["latency"]["seconds_per_text"], describe_speed(row["latency"])) for row in measured]
        columns = ["artifact", ">texts a second"]
        rows = [[_text(_name(row)), f"{1 / row['latency']['seconds_per_text']:,.1f}"] for row in measured]
    return (f'<h2>Speed</h2><p class="soft">{what}, on the machine that wrote the bundle.</p><div class="card">'
            f"{_bars(bars)}{_table(columns, rows)}</div>")


def _makings(artifacts):
    """Memory, operators, and what the delegates of phones leave."""
    measured = [row for row in artifacts if row.get("operators")]
    if not measured:
        return ""
    rows = []
    for row in measured:
        arena, left = row.get("arena") or {}, row.get("delegates") or {}
        kinds = row["operators"]
        rows.append([_text(_name(row)), f"{_megabytes(max(arena.values()))} MB" if arena else "-",
                     f"{sum(kinds.values()):,}",
                     _text(_counts(kinds)), *(_text(_counts(left[name]) or "none") if name in left else "-"
                                              for name in ("xnnpack", "gpu"))])
    bars = _bars([(_name(row), row["memory"], f"{_megabytes(row['memory'])} MB")
                  for row in measured if row.get("memory")])
    return ('<h2>Memory and operators</h2><p class="soft">Memory: by how much the process grew while it opened the '
            "file and answered what was timed above. Arena: the values that lie in memory together in the largest "
            "signature, weights not counted. Left: operators that a phone's delegate leaves to plain kernels, by "
            f'their kind.</p><div class="card">{bars}{_table(MAKINGS, rows)}</div>')


def _counts(kinds, most=6):
    """The most frequent kinds of operators."""
    shown = [f"{kind} {count:,}" for kind, count in list(kinds.items())[:most]]
    return ", ".join(shown + ([f"{len(kinds) - most} more kinds"] if len(kinds) > most else []))


def _parity(artifacts):
    blocks = []
    for row in artifacts:
        checks = row["verification"].get("rows", [])
        worst = max((check for check in checks if check["value"] and check["limit"]), default=None,
                    key=lambda check: check["value"] / check["limit"])
        failed = sum(not check["passed"] for check in checks)
        outcome = (f'<span class="bad">{failed} of {len(checks)} checks failed</span>' if failed
                   else f'<span class="good">{len(checks)} checks passed</span>')
        largest = "" if worst is None else (f'<span class="soft">, largest error {_number(worst["value"])} '
                                            f'of {_number(worst["limit"])} allowed</span>')
        lines = [["&#10003;" if check["passed"] else '<span class="bad">&#10007;</span>', _text(check["check"]),
                  _number(check["value"]), _number(check["limit"]), _text(check["note"] or "")] for check in checks]
        blocks.append(f"<details{' open' if failed else ''}><summary>{_text(_name(row))}: {outcome}{largest}</summary>"
                      f'{_table(["", "check", ">error", ">limit", "*note"], lines)}</details>')
    return ('<h2>Parity with the model</h2><p class="soft">Each file was opened in its own runtime. Errors of logits '
            "are the largest absolute difference, relative to the spread (largest minus smallest) of the model's; "
            f'other rows count what differs.</p><div class="card">{"".join(blocks)}</div>')


def _curve(history):
    series = {}
    for name in ("loss", "validation_loss"):
        series[name] = [(row["step"], row[name]) for row in history
                        if row.get(name) is not None and math.isfinite(row[name])]
    points = [point for line in series.values() for point in line]
    if len(points) < 2:
        return ""
    left, right, top, bottom, width, height = 56, 16, 14, 34, 640, 280
    most = max(step for step, _ in points) or 1
    low, high = min(value for _, value in points), max(value for _, value in points)
    ticks = _ticks(low, high)
    low, high = min(low, ticks[0]), max(high, ticks[-1])

    def place(step, value):
        return (left + (width - left - right) * step / most,
                top + (height - top - bottom) * (high - value) / ((high - low) or 1))

    parts = []
    for tick in ticks:
        y = place(0, tick)[1]
        parts.append(f'<line class="grid" x1="{left}" x2="{width - right}" y1="{y:.1f}" y2="{y:.1f}"/>'
                     f'<text class="soft" x="{left - 8}" y="{y + 4:.1f}" text-anchor="end">{tick:g}</text>')
    for step in (0, most // 2, most):
        anchor = {0: "start", most: "end"}.get(step, "middle")
        parts.append(f'<text class="soft" x="{place(step, 0)[0]:.1f}" y="{height - 8}" '
                     f'text-anchor="{anchor}">{step:,}</text>')
    for name, style in (("loss", "first"), ("validation_loss", "second")):
        line = [place(*point) for point in series[name]]
        if len(line) > 1:
            parts.append(f'<polyline class="{style}" points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in line)}"/>')
        if style == "second":
            parts += [f'<circle class="dot2" cx="{x:.1f}" cy="{y:.1f}" r="3"/>' for x, y in line]
    last = {name: line[-1][1] for name, line in series.items() if line}
    key = "".join(f'<i style="background: var(--{colour})"></i>{label}: {last[name]:.3f} at the end'
                  for name, label, colour in (("loss", "training", "blue"), ("validation_loss", "validation", "orange"))
                  if name in last)
    return (f'<h2>Training</h2><p class="soft">Loss (cross-entropy per token) over {most:,} steps.</p>'
            f'<div class="card"><svg viewBox="0 0 {width} {height}" role="img" aria-label="Loss over training steps">'
            f'{"".join(parts)}</svg><div class="key">{key}</div></div>')


def _samples(samples):
    if not samples:
        return ""
    texts = {(row["prompt"], row["text"]) for row in samples}
    grouped = [(prompt, text, [row["source"] for row in samples if (row["prompt"], row["text"]) == (prompt, text)])
               for prompt, text in dict.fromkeys((row["prompt"], row["text"]) for row in samples)]
    blocks = []
    for prompt, text, sources in grouped:
        rest = text[len(prompt):] if text.startswith(prompt) else text
        start = f"<em>{_text(prompt)}</em>" if text.startswith(prompt) else ""
        blocks.append(f'<div class="sample"><span class="key">{_text(_listed(sources))}</span>'
                      f"<pre>{start}{_text(rest)}</pre></div>")
    prompts = len({prompt for prompt, _ in texts})
    same = " Every runtime wrote the same." if len(texts) == prompts and len(samples) > prompts else ""
    return f'<h2>Samples</h2><p class="soft">The prompt is in grey.{same}</p><div class="card">{"".join(blocks)}</div>'


def _details(manifest):
    config = [[_text(name), _text("-" if value is None else str(value))] for name, value in manifest["config"].items()]
    versions = [[_text(name), _text(version)] for name, version in manifest["versions"].items()]
    return ('<h2>Details</h2><div class="card">'
            f'<details><summary>Config</summary>{_table(["field", "value"], config)}</details>'
            f'<details><summary>Versions</summary>{_table(["package", "version"], versions)}</details></div>')


def _bars(rows):
    """Horizontal bars with their values beside them: (label, value, text) rows."""
    largest = max((value for _, value, _ in rows), default=0) or 1
    parts = [f'<span>{_text(label)}</span><div><i style="width: {100 * value / largest:.1f}%"></i></div>'
             f'<span class="number">{_text(text)}</span>' for label, value, text in rows]
    return f'<div class="bars">{"".join(parts)}</div>'


def _table(columns, rows):
    """Columns named with a leading ">" hold numbers, with "*" remarks. Cells are HTML."""
    styles = [{">": ' class="number"', "*": ' class="note"'}.get(name[:1], "") for name in columns]
    head = "".join(f"<th{style if 'number' in style else ''}>{_text(name.lstrip('>*'))}</th>"
                   for name, style in zip(columns, styles, strict=True))
    body = "".join("<tr>" + "".join(f"<td{style}>{cell}</td>" for cell, style in zip(row, styles, strict=True))
                   + "</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _ticks(low, high, count=4):
    """Round numbers across a range."""
    span = (high - low) or abs(high) or 1
    raw = span / count
    unit = 10 ** math.floor(math.log10(raw))
    step = next(unit * factor for factor in (1, 2, 5, 10) if unit * factor >= raw)
    first = math.floor(low / step)
    return [round((first + i) * step, 10) for i in range(math.ceil(high / step) - first + 1)]


def _name(row):
    title = TITLES.get(row["runtime"], row["runtime"])
    return title if row["variant"] == "none" else f"{title} {row['variant']}"


def _number(value):
    return "" if value is None else (f"{value:.1e}" if isinstance(value, float) else str(value))


def _suffix(name):
    return pathlib.PurePosixPath(name).suffix


def _megabytes(size):
    return f"{size / 1e6:.1f}" if size < 1e8 else f"{size / 1e6:,.0f}"


def _counted(number):
    for size, unit in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.1f}{unit}"
    return str(number)


def _listed(names):
    return names[0] if len(names) == 1 else ", ".join(names[:-1]) + f" and {names[-1]}"


def _text(value):
    return html.escape(str(value))
