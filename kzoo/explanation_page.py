"""The page of an `Explanation`: a reader points at a token and sees whom it attends to. No network, no libraries."""
import json

import numpy as np

from kzoo.export.report_page import escaped, page

MOST_NUMBERS = 2_000_000  # in the page; above that, heads are shown by their mean

STYLE = """<style>
.tokens { display: flex; flex-wrap: wrap; gap: .2rem .15rem; line-height: 1.9; }
.tokens button { font: 1rem/1.5 ui-monospace, monospace; color: var(--ink); border: 1px solid var(--line);
  border-radius: .35rem; padding: .1rem .4rem; background: none; cursor: pointer; white-space: pre; }
.tokens button.chosen { outline: 2px solid var(--blue); outline-offset: 1px; }
.tokens button:focus-visible { outline: 2px solid var(--orange); }
.controls { display: flex; flex-wrap: wrap; gap: .8rem 1.2rem; align-items: center; margin: 0 0 .9rem; }
.controls select { font: inherit; color: var(--ink); background: var(--card); border: 1px solid var(--line);
  border-radius: .35rem; padding: .2rem .5rem; }
canvas { width: 100%; max-width: 26rem; image-rendering: pixelated; border: 1px solid var(--line); display: block; }
.says { min-height: 1.6rem; color: var(--soft); font-size: .9rem; margin: .7rem 0 0; }
</style>"""

SCRIPT = """<script>
const data = JSON.parse(document.getElementById("data").textContent);
const size = data.tokens.length, byId = name => document.getElementById(name);
let chosen = data.position === null ? 0 : data.position;
function color(name) { return getComputedStyle(document.documentElement).getPropertyValue(name).trim(); }
function mixed(name, share) { return `color-mix(in srgb, ${color(name)} ${(100 * share).toFixed(0)}%, transparent)`; }
function row() { // how much the chosen token attends to each
  const layer = byId("layer").value, head = byId("head").value;
  if (layer === "rollout") return data.rollout[chosen];
  const heads = data.attention[layer];
  if (head !== "mean") return heads[head][chosen];
  return data.tokens.map((_, j) => heads.reduce((sum, one) => sum + one[chosen][j], 0) / heads.length);
}
function matrix(i) { const before = chosen; chosen = i; const found = row(); chosen = before; return found; }
function spread(place, select) {
  place.replaceChildren(...data.tokens.map((token, i) => {
    const button = document.createElement("button");
    button.textContent = token.trim() === "" ? JSON.stringify(token).slice(1, -1).replaceAll(" ", "\\u2423") : token;
    if (select) for (const kind of ["mouseenter", "focus", "click"]) button.addEventListener(kind, () => select(i));
    return button;
  }));
  return [...place.children];
}
const looking = spread(byId("looking"), i => { chosen = i; show(); });
function show() {
  const shares = row(), most = Math.max(...shares);
  looking.forEach((button, j) => {
    button.classList.toggle("chosen", j === chosen);
    button.style.background = mixed("--blue", 0.85 * shares[j] / most);
    button.title = `${(100 * shares[j]).toFixed(1)} %`;
  });
  byId("head").disabled = byId("layer").value === "rollout";
  const order = shares.map((share, j) => [share, j]).sort((a, b) => b[0] - a[0]).slice(0, 5);
  byId("says").textContent = `"${data.tokens[chosen]}" (${chosen + 1} of ${size}) attends to: ` + order.map(
    ([share, j]) => `"${data.tokens[j]}" ${(100 * share).toFixed(1)} %`).join(", ");
  draw();
}
function draw() {
  const canvas = byId("map"), context = canvas.getContext("2d");
  canvas.width = canvas.height = size;
  context.clearRect(0, 0, size, size);
  for (let i = 0; i < size; i++) {
    const shares = matrix(i), most = Math.max(...shares);
    shares.forEach((share, j) => { context.globalAlpha = share / most; context.fillStyle = color("--blue");
      context.fillRect(j, i, 1, 1); });
  }
  context.globalAlpha = 0.25; context.fillStyle = color("--orange"); context.fillRect(0, chosen, size, 1);
}
byId("map").addEventListener("mousemove", event => {
  const box = event.target.getBoundingClientRect();
  chosen = Math.min(size - 1, Math.max(0, Math.floor((event.clientY - box.top) / box.height * size)));
  show();
});
for (const name of ["layer", "head"]) byId(name).addEventListener("change", show);
const largest = Math.max(...data.attribution.map(Math.abs)) || 1;
spread(byId("attributed"), i => { byId("due").textContent =
  `"${data.tokens[i]}": ${data.attribution[i] > 0 ? "+" : ""}${data.attribution[i].toFixed(3)} nats`; }
).forEach((button, i) => {
  const value = data.attribution[i];
  button.style.background = mixed(value > 0 ? "--good" : "--bad", 0.75 * Math.abs(value) / largest);
  button.title = value.toFixed(3);
});
show();
</script>"""


def render_explanation(explanation):
    """The page, as text.

    Args:
        explanation: a `kzoo.explanation.Explanation`.
    """
    attention = explanation.attention
    if attention.size > MOST_NUMBERS:
        attention = attention.mean(axis=1, keepdims=True)
    data = {"tokens": list(explanation.tokens), "position": explanation.position,
            "attention": _rounded(attention), "rollout": _rounded(explanation.rollout),
            "attribution": _rounded(explanation.attribution)}
    # "<" could end the script; as an escape it means the same to a reader of JSON.
    block = json.dumps(data, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
    sections = [STYLE, _head(explanation), _attention(explanation, attention.shape[1]), _attribution(explanation),
                f'<script type="application/json" id="data">{block}</script>', SCRIPT]
    return page("What an answer came from", sections)


def _rounded(array):
    return np.round(array.astype("float64"), 4).tolist()


def _head(explanation):
    facts = [(escaped(repr(explanation.answer)[1:-1]), "the model's answer"),
             (f"{100 * np.exp(explanation.score):.1f} %", "its probability"), (len(explanation.tokens), "tokens"),
             (len(explanation.layers), "layers"), (explanation.attention.shape[1], "heads")]
    boxes = "".join(f'<div class="fact"><b>{value}</b><span>{label}</span></div>' for value, label in facts)
    return (f'<h1>{escaped(explanation.question)}: {escaped(repr(explanation.answer))}</h1>'
            '<p class="soft">What a model '
            "looked at when it read a text. Neither attention nor gradients are the reason of an answer; they show "
            f'where to look for it.</p><div class="facts">{boxes}</div>')


def _attention(explanation, heads):
    layers = "".join(f'<option value="{number}">{escaped(path)}</option>'
                     for number, path in enumerate(explanation.layers))
    numbers = "" if heads != explanation.attention.shape[1] else "".join(
        f'<option value="{number}">{number + 1}</option>' for number in range(heads))
    return ('<h2>Attention</h2><p class="soft">Point at a token: the more colour on another, the more it looks at it. '
            "Rollout follows it through all layers, taking half of a token to stay as it is in each.</p>"
            f'<div class="card"><div class="controls"><label>Layer <select id="layer"><option value="rollout">all: '
            f'rollout</option>{layers}</select></label><label>Head <select id="head"><option value="mean">mean</option>'
            f'{numbers}</select></label></div><div class="tokens" id="looking"></div><p class="says" id="says" '
            'aria-live="polite"></p></div><h3 style="margin-top:1.2rem">All rows: who (down) attends to whom '
            '(across)</h3><canvas id="map" aria-label="attention of every token to every token"></canvas>')


def _attribution(explanation):
    change = explanation.score - explanation.baseline_score
    together = explanation.attribution.sum()
    return ('<h2>Integrated gradients</h2><p class="soft">How much each token adds to the log-probability of the '
            f"answer, in nats: green makes it likelier, red less likely. Together they are {together:+.3f}; "
            f"the text with all its tokens is {change:+.3f} above the same places with the average token in each. What "
            f"is missing, {explanation.gap:.1e}, is the integral's, with {explanation.steps} steps.</p>"
            '<div class="card"><div class="tokens" id="attributed"></div><p class="says" id="due" aria-live="polite">'
            'Point at a token for its number.</p></div>')
