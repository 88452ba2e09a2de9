"""The frame of a report: one page with its style inside, light and dark, readable on a phone."""
import string

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
h2 { font-size: 1.1rem; margin: 2.6rem 0 .3rem; }
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
