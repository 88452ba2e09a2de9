"""report.html: sizes, parity and speed of a bundle, and how the model was trained, on one page without a network."""
import math
import pathlib

from kzoo.export.report_page import (
    TITLES,
    artifact_title,
    bar_chart,
    describe_work,
    escaped,
    html_table,
    in_megabytes,
    measure_charts,
    page,
)

MAKINGS = ["artifact", ">arena", ">operators", "*most frequent", "*left by XNNPACK", "*left by the GPU's"]


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
    return page(title, sections)


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
    return (f"<h1>{escaped(manifest['family'])} for {escaped(manifest['task'])}</h1>"
            f'<p class="soft">One model as {escaped(_listed(runtimes))}. Written by kzoo {escaped(manifest["kzoo"])}, '
            f'{escaped(manifest["created"][:16].replace("T", " "))} UTC.</p>{verdict}<div class="facts">{boxes}</div>')


def _sizes(manifest, artifacts):
    bytes_of = {row["path"]: row["size"] for row in manifest["files"]}
    # Files of the main one's kind; others lie beside it, such as a tokenizer.
    main = {artifact_title(row): sum(bytes_of[name] for name in row["files"]
                            if _suffix(name).startswith(_suffix(row["file"]))) for row in artifacts}
    bars = bar_chart([(name, size / 1e6, f"{in_megabytes(size)} MB") for name, size in main.items()])
    rows = [[escaped(artifact_title(row)), f"<code>{escaped(row['file'])}</code>", (f"{row.get('seconds') or 0:.0f} s"),
             f"{(row.get('peak_memory') or 0) / 1e9:.1f} GB"] for row in artifacts]
    table = html_table(["artifact", "file", ">time to convert", ">peak memory"], rows)
    return f'<h2>Sizes</h2><div class="card">{bars}{table}</div>'


def _speeds(artifacts):
    measured = [row for row in artifacts if row.get("latency")]
    if not measured:
        return ""
    first = measured[0]["latency"]
    measured = [row for row in measured if row["latency"].keys() == first.keys()]  # not the speed of a tokenizer alone
    rows = [{**row["latency"], "label": artifact_title(row), "load_seconds": row.get("load_seconds"),
             "memory": row.get("memory")} for row in measured]
    return (f'<h2>Speed</h2><p class="soft">{describe_work(first)}, on the machine that wrote the bundle. Memory: by '
            "how much the process grew while it opened the file and did this.</p>"
            f'<div class="card">{measure_charts(rows)}</div>')


def _makings(artifacts):
    """Operators, the memory of what lies between them, and what the delegates of phones leave."""
    measured = [row for row in artifacts if row.get("operators")]
    if not measured:
        return ""
    rows = []
    for row in measured:
        arena, left = row.get("arena") or {}, row.get("delegates") or {}
        kinds = row["operators"]
        rows.append([escaped(artifact_title(row)), f"{in_megabytes(max(arena.values()))} MB" if arena else "-",
                     f"{sum(kinds.values()):,}",
                     escaped(_counts(kinds)), *(escaped(_counts(left[name]) or "none") if name in left else "-"
                                              for name in ("xnnpack", "gpu"))])
    return ('<h2>Operators</h2><p class="soft">Arena: the values that lie in memory together in the largest '
            "signature, weights not counted. Left: operators that a phone's delegate leaves to plain kernels, by "
            f'their kind.</p><div class="card">{html_table(MAKINGS, rows)}</div>')


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
        lines = [["&#10003;" if check["passed"] else '<span class="bad">&#10007;</span>', escaped(check["check"]),
                  _number(check["value"]), _number(check["limit"]), escaped(check["note"] or "")] for check in checks]
        blocks.append(f"<details{' open' if failed else ''}><summary>{escaped(artifact_title(row))}: {outcome}"
                      f"{largest}</summary>"
                      f'{html_table(["", "check", ">error", ">limit", "*note"], lines)}</details>')
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
        start = f"<em>{escaped(prompt)}</em>" if text.startswith(prompt) else ""
        blocks.append(f'<div class="sample"><span class="key">{escaped(_listed(sources))}</span>'
                      f"<pre>{start}{escaped(rest)}</pre></div>")
    prompts = len({prompt for prompt, _ in texts})
    same = " Every runtime wrote the same." if len(texts) == prompts and len(samples) > prompts else ""
    return f'<h2>Samples</h2><p class="soft">The prompt is in grey.{same}</p><div class="card">{"".join(blocks)}</div>'


def _details(manifest):
    config = [[escaped(name), escaped("-" if value is None else value)] for name, value in manifest["config"].items()]
    versions = [[escaped(name), escaped(version)] for name, version in manifest["versions"].items()]
    return ('<h2>Details</h2><div class="card">'
            f'<details><summary>Config</summary>{html_table(["field", "value"], config)}</details>'
            f'<details><summary>Versions</summary>{html_table(["package", "version"], versions)}</details></div>')




def _ticks(low, high, count=4):
    """Round numbers across a range."""
    span = (high - low) or abs(high) or 1
    raw = span / count
    unit = 10 ** math.floor(math.log10(raw))
    step = next(unit * factor for factor in (1, 2, 5, 10) if unit * factor >= raw)
    first = math.floor(low / step)
    return [round((first + i) * step, 10) for i in range(math.ceil(high / step) - first + 1)]



def _number(value):
    return "" if value is None else (f"{value:.1e}" if isinstance(value, float) else str(value))


def _suffix(name):
    return pathlib.PurePosixPath(name).suffix



def _counted(number):
    for size, unit in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.1f}{unit}"
    return str(number)


def _listed(names):
    return names[0] if len(names) == 1 else ", ".join(names[:-1]) + f" and {names[-1]}"
