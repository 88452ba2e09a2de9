"""What pages are made of: one frame with its style inside, light and dark, readable on a phone; tables and bars."""
import html
import string

# As people write the runtimes.
TITLES = {"live": "live model", "savedmodel": "SavedModel", "onnx": "ONNX", "tflite": "TFLite", "keras": "Keras",
          "savedmodel-text": "SavedModel with text", "onnx-text": "ONNX with text", "tflite-text": "TFLite with text"}

PAGE = string.Template("""\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title>
<style>
:root { color-scheme: light dark; --ground: #fbfbfa; --card: #ffffff; --ink: #1b1f24; --soft: #5c6570; --line: #e3e5e8;
  --blue: #2563c4; --orange: #c2571a; --good: #1a7f4b; --bad: #c02b2b; }
@media (prefers-color-scheme: dark) { :root { --ground: #14171a; --card: #1c2024; --ink: #e8eaed; --soft: #9aa4af;
  --line: #30363c; --blue: #78a9f5; --orange: #f0a06a; --good: #59c48b; --bad: #f08080; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--ground); color: var(--ink); font: 16px/1.55 system-ui, sans-serif; }
main { max-width: 62rem; margin: 0 auto; padding: 2.5rem 1.25rem 4rem; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 .35rem; letter-spacing: -.01em; }
h2 { font-size: 1.1rem; margin: 2.6rem 0 .3rem; } h3 { font-size: .9rem; margin: .2rem 0 .5rem; }
p { margin: .2rem 0 .9rem; max-width: 46rem; } .soft { color: var(--soft); }
.verdict { display: inline-block; padding: .15rem .7rem; border-radius: 1rem; font-weight: 600; font-size: .9rem;
  border: 1.5px solid currentColor; }
.good { color: var(--good); } .bad { color: var(--bad); }
.facts { display: grid; grid-template-columns: repeat(auto-fit, minmax(9rem, 1fr)); gap: .75rem; margin: 1.4rem 0 0; }
.fact { background: var(--card); border: 1px solid var(--line); border-radius: .6rem; padding: .7rem .9rem; }
.fact b { display: block; font-size: 1.25rem; font-variant-numeric: tabular-nums; } .fact span { color: var(--soft);
  font-size: .85rem; }
.card { background: var(--card); border: 1px solid var(--line); border-radius: .6rem; padding: 1rem 1.1rem;
  overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .92rem; font-variant-numeric: tabular-nums; }
th { text-align: left; font-weight: 600; color: var(--soft); font-size: .82rem; }
th, td { padding: .38rem .8rem .38rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
tr:last-child td { border-bottom: 0; } .number { text-align: right; white-space: nowrap; }
td.note { color: var(--soft); font-size: .85rem; }
details + details { margin-top: .5rem; } summary { cursor: pointer; padding: .2rem 0; font-weight: 600; }
summary .soft { font-weight: 400; } details table { margin: .3rem 0 .8rem; }
.bars { display: grid; grid-template-columns: max-content 1fr max-content; gap: .45rem .9rem; align-items: center;
  margin-bottom: .9rem; } .bars i { display: block; height: 1.1rem; border-radius: .2rem; background: var(--blue);
  min-width: 2px; }
svg { display: block; width: 100%; height: auto; font: 13px system-ui, sans-serif; }
@media (max-width: 600px) { svg { font-size: 22px; } th, td { padding-right: .6rem; } }
svg text { fill: var(--ink); } svg .soft { fill: var(--soft); } svg .grid { stroke: var(--line); }
svg .first { fill: none; stroke: var(--blue); stroke-width: 2; } svg .second { fill: none; stroke: var(--orange);
  stroke-width: 2; } svg .dot2 { fill: var(--orange); }
.key { color: var(--soft); font-size: .85rem; } .key i { display: inline-block; width: 1.1rem; height: .2rem;
  margin: 0 .35rem .2rem .9rem; } .key i:first-child { margin-left: 0; }
pre { margin: .2rem 0 0; white-space: pre-wrap; overflow-wrap: anywhere; font: .86rem/1.5 ui-monospace, monospace; }
pre em { color: var(--soft); font-style: normal; } .sample + .sample { border-top: 1px solid var(--line);
  margin-top: .8rem; padding-top: .8rem; }
code { font: .9em ui-monospace, monospace; }
</style>
</head>
<body><main>
$body
</main></body>
</html>
""")


# What is measured of a file: its name in a row, what a chart of it is called, how a value is written.
MEASURES = (
    ("tokens_per_second", "Tokens a second after the first; longer is better", lambda value: f"{value:,.0f} tokens/s"),
    ("first_token_seconds", "Time to the first token; shorter is better", lambda value: f"{1000 * value:.1f} ms"),
    ("seconds_per_text", "Time for a text; shorter is better", lambda value: f"{1000 * value:.1f} ms"),
    ("load_seconds", "Time to open; shorter is better", lambda value: f"{value:.2f} s"),
    ("memory", "Memory; shorter is better", lambda value: f"{in_megabytes(value)} MB"),
    ("size", "Size on disk; shorter is better", lambda value: f"{in_megabytes(value)} MB"),
)


def page(title, sections):
    """A whole page, as text. Sections are HTML; empty ones are left out."""
    return PAGE.substitute(title=html.escape(title), body="\n".join(filter(None, sections)))


def bar_chart(rows):
    """Horizontal bars with their values beside them: (label, value, text) rows."""
    largest = max((value for _, value, _ in rows), default=0) or 1
    parts = [f'<span>{escaped(label)}</span><div><i style="width: {100 * value / largest:.1f}%"></i></div>'
             f'<span class="number">{escaped(shown)}</span>' for label, value, shown in rows]
    return f'<div class="bars">{"".join(parts)}</div>'


def html_table(columns, rows):
    """Columns named with a leading ">" hold numbers, with "*" remarks. Cells are HTML."""
    styles = [{">": ' class="number"', "*": ' class="note"'}.get(name[:1], "") for name in columns]
    head = "".join(f"<th{style if 'number' in style else ''}>{escaped(name.lstrip('>*'))}</th>"
                   for name, style in zip(columns, styles, strict=True))
    body = "".join("<tr>" + "".join(f"<td{style}>{cell}</td>" for cell, style in zip(row, styles, strict=True))
                   + "</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def measure_charts(rows):
    """Bars for each measure that any row has, one below the other: a reader picks a variant by looking.

    Args:
        rows: dicts with `label` and some of the names in `MEASURES`; None is as good as missing.
    """
    parts = []
    for name, title, shown in MEASURES:
        bars = [(row["label"], row[name], shown(row[name])) for row in rows if row.get(name) is not None]
        if bars:
            parts.append(f"<h3>{escaped(title)}</h3>{bar_chart(bars)}")
    return "".join(parts)


def describe_work(found):
    """What `kzoo.export.latency.measure` did, by what it returned."""
    if "tokens_per_second" in found:
        return f"Greedy, one prompt of {found['prompt_length']} tokens, {found['new_tokens']} new ones"
    return f"One text of {found['text_length']} tokens at a time"


def render_bench(rows):
    """A page of measured files, as text.

    Args:
        rows: dicts with `path`, `runtime`, `variant` and some of the names in `MEASURES`.
    """
    paths = {row["path"] for row in rows}
    kinds = {}  # what was done -> rows
    for row in rows:
        label = artifact_title(row) if len(paths) == 1 else f"{row['path']}: {artifact_title(row)}"
        kinds.setdefault(describe_work(row), []).append({**row, "label": label})
    sections = ["<h1>Measured on one machine</h1>", '<p class="soft">Memory: by how much a process of its own grew '
                "while it opened the file and did the work below, the runtime's own code not counted.</p>"]
    sections += [f'<h2>{escaped(work)}</h2><div class="card">{measure_charts(each)}</div>'
                 for work, each in kinds.items()]
    return page("kzoo bench", sections)


def artifact_title(row):
    """What people call a row with `runtime` and `variant`."""
    title = TITLES.get(row["runtime"], row["runtime"])
    return title if row["variant"] == "none" else f"{title} {row['variant']}"


def in_megabytes(size):
    """Bytes as a number of megabytes."""
    return f"{size / 1e6:.1f}" if size < 1e8 else f"{size / 1e6:,.0f}"


def escaped(value):
    """As text of the page."""
    return html.escape(str(value))
