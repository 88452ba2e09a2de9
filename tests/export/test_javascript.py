"""transformers.js in Node, and onnxruntime-web in a browser, run the lines of a bundle's README and say what we do.

KZOO_NODE_MODULES=/path/to/node_modules, made by `npm install @huggingface/transformers onnxruntime-web`; a Chromium.
"""
import functools
import http.server
import json
import os
import pathlib
import queue
import re
import shutil
import subprocess
import threading

import numpy as np
import pytest

import kzoo
from kzoo.export import open_bundle
from kzoo.export.artifact import main_file
from kzoo.export.genai import JAVASCRIPT_TYPES
from kzoo.export.verify import TOLERANCES as GATE

HERE = pathlib.Path(__file__).parent
MODULES = os.environ.get("KZOO_NODE_MODULES")
BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
NODE, PAGE = "JavaScript (transformers.js), in Node and in pages", "Browser (JavaScript, onnxruntime-web alone)"

pytestmark = pytest.mark.skipif(not MODULES, reason="KZOO_NODE_MODULES names no folder of packages for Node")
in_browser = pytest.mark.skipif(not BROWSER, reason="no Chromium is installed")

# With the words of the READMEs, each of which is then one piece: whether an answer may begin within a word is a choice.
TEXT = ["the quick brown fox jumps over the lazy dog", "pack my box with five dozen liquor jugs", "What a day!",
        "Who came? Ann came. The [MASK] is here."] * 9
# Wide enough for blocks of 4 bits to pass the gate.
SIZES = {"num_layers": 1, "num_heads": 4, "hidden_dim": 128, "intermediate_dim": 128, "max_sequence_length": 45}
TASKS = {  # task -> preset, tokenizer, settings
    "text-generation": ("gpt2-nano", "byte-bpe", {}),
    "text-classification": ("bert-tiny", "wordpiece", {"labels": ("short", "long", "neither")}),
    "token-classification": ("bert-tiny", "wordpiece", {"labels": ("A", "B", "C")}),
    "fill-mask": ("bert-tiny", "wordpiece", {}),
    "question-answering": ("bert-tiny", "wordpiece", {}),
    "feature-extraction": ("bert-tiny", "wordpiece", {"pooling": "mean", "normalize": True}),
    "translation": ("marian-base", "sentencepiece", {"tie_output": False}),
    "summarization": ("t5-v1.1-small", "sentencepiece", {}),
}
VARIANTS = {"text-generation": tuple(JAVASCRIPT_TYPES), "text-classification": tuple(JAVASCRIPT_TYPES),
            "translation": ("none", "fp16", "int8")}
VOCABULARY = {"byte-bpe": 307, "wordpiece": 120, "sentencepiece": 300}


@pytest.fixture(scope="module")
def bundle_of(redrawn, export_here, tmp_path_factory):
    """A function of a task: the folder of its bundle."""
    @functools.cache
    def make(task):
        preset, kind, settings = TASKS[task]
        tokenizer = kzoo.train_tokenizer(kind, TEXT, vocabulary_size=VOCABULARY[kind])
        if preset == "marian-base":
            settings = {**settings, **dict.fromkeys(("pad_id", "decoder_start_id"), tokenizer.pad_id),
                        "eos_id": tokenizer.eos_id}
        model = kzoo.create(preset, task=task, tokenizer=tokenizer, vocabulary_size=tokenizer.vocabulary_size, **SIZES,
                            **settings)
        redrawn(model, seed=3)
        if task == "translation":  # sizes and offsets of the last norm would drown what the tokens say
            for weight in model.trainable_weights:
                if "norm" in weight.path:
                    weight.assign(np.full(weight.shape, float(weight.path.endswith("scale"))))
                elif "kernel" in weight.path:
                    weight.assign(weight / 4)
        folder = tmp_path_factory.mktemp(task) / "bundle"
        export_here(model, folder, formats=("onnx",), quantize=VARIANTS.get(task, ("none",)))
        return folder
    return make


def lines_of(folder, heading, dtype=None):
    """The README's JavaScript under a heading, for this folder."""
    text = (folder / "README.md").read_text(encoding="utf-8")
    code = re.search(rf"\*\*{re.escape(heading)}\*\*\n\n((?:    .*\n)+)", text)[1]
    return code if dtype is None else re.sub(r'dtype: "\w+"', f'dtype: "{dtype}"', code)


def in_node(folder, code, tmp_path):
    """What the code prints, as values."""
    code = code.replace('"path/to/this/"', json.dumps(f"{folder.parent}/")).replace('"folder"', json.dumps(folder.name))
    (tmp_path / "node_modules").symlink_to(MODULES)
    (tmp_path / "code.mjs").write_text(
        'console.log = (value) => process.stdout.write(JSON.stringify(value) + "\\n");\n' + code, encoding="utf-8")
    return run("code.mjs", cwd=tmp_path)


def run(*command, cwd=HERE):
    finished = subprocess.run(["node", *map(str, command)], check=False, capture_output=True, text=True, cwd=cwd)
    assert finished.returncode == 0, finished.stderr
    return json.loads(finished.stdout.strip().splitlines()[-1])


def ask(client, folder, dtype, *arguments):
    return run("clients.mjs", client, folder, dtype, *map(json.dumps, arguments))


def on_page(folder, code, tmp_path, build="webgpu"):
    """What the code prints in a browser, on a page beside the bundle's files.

    `build` is that of onnxruntime-web which transformers.js gets; "webgpu" is the one it names.
    """
    answers = queue.Queue()
    page = (HERE / "browser_client.html").read_text(encoding="utf-8")
    (tmp_path / "page.html").write_text(page.replace("ort.webgpu.", f"ort.{build}."), encoding="utf-8")

    class Server(http.server.SimpleHTTPRequestHandler):
        extensions_map = {**http.server.SimpleHTTPRequestHandler.extensions_map, ".mjs": "text/javascript",
                          ".wasm": "application/wasm"}

        def translate_path(self, path):
            path = path.split("?")[0]
            if path.startswith("/node_modules/"):
                return str(pathlib.Path(MODULES) / path.removeprefix("/node_modules/"))
            name = path.removeprefix("/bundle/")
            return str((tmp_path if name in ("page.html", "code.mjs") else folder) / name)

        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            answers.put((self.path, json.loads(body)))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *args):
            pass

    (tmp_path / "code.mjs").write_text(code.replace('"path/to/this/"', '"/"').replace('"folder"', '"bundle"'))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        query = "?transformers" if "transformers" in code else ""
        browser = subprocess.Popen(
            [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
             "--disable-background-networking", f"--user-data-dir={tmp_path / 'profile'}",
             f"http://127.0.0.1:{server.server_port}/bundle/page.html{query}"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            kind, answer = answers.get(timeout=120)
        finally:
            browser.terminate()
            browser.wait()
            server.shutdown()
    assert kind == "/printed", answer
    return answer


def variants_of(*tasks):
    return [(task, variant) for task in tasks for variant in VARIANTS.get(task, ("none",))]


def expected_answer(session, task, tokens=32):
    """What transformers.js prints, out of our answer to the README's text."""
    if task == "text-generation":
        return [{"generated_text": session("What a day!", max_new_tokens=tokens)}]
    if task in ("translation", "summarization"):
        name = {"translation": "translation_text", "summarization": "summary_text"}[task]
        return [{name: session("What a day!", max_new_tokens=tokens)}]
    if task == "feature-extraction":
        return [session("What a day!").tolist()]
    if task == "text-classification":
        answer = session("What a day!")
        return [{"label": answer["label"], "score": answer["score"]}]
    if task == "token-classification":
        return [{"entity": row["label"], "score": row["score"]} for row in session("What a day!")]
    if task == "fill-mask":
        return [{"token_str": row["token"], "score": row["score"]}
                for row in session(f"The {session.tokenizer.roles['mask']} is here.")[0]]
    # Theirs multiplies the shares of both ends, ours is a share of all spans.
    return {"answer": session(question="Who came?", context="Ann came.")["answer"]}


def assert_like(found, expected, tolerance):
    """The same labels and texts, and numbers that are near, in all that is expected."""
    if isinstance(expected, dict):
        for name, value in expected.items():
            assert_like(found[name], value, tolerance)
    elif isinstance(expected, list):
        assert len(found) == len(expected), (found, expected)
        for each, value in zip(found, expected, strict=True):
            assert_like(each, value, tolerance)
    elif isinstance(expected, str):
        assert found == expected
    else:
        assert found == pytest.approx(expected, abs=tolerance)


# A quantised product rounds its inputs too, and not alike in every build of ONNX Runtime.
TOLERANCES = {"none": 1e-4, "fp16": 1e-2, "int8": 1e-2, "int4": 1e-2}
# So that in WebAssembly, where it rounds otherwise again, near ties fall the other way sooner or later.
TOKENS = {"none": 32, "fp16": 32, "int8": 12, "int4": 12}


@pytest.mark.parametrize(("task", "variant"), variants_of(*TASKS))
def test_the_lines_of_the_readme_run_in_node(bundle_of, tmp_path, task, variant):
    folder = bundle_of(task)
    found = in_node(folder, lines_of(folder, NODE, JAVASCRIPT_TYPES[variant]), tmp_path)
    if task == "token-classification":  # theirs are pieces; ours are words, as the first piece of each says
        found = [row for row in found if not row["word"].startswith("##")]
    assert_like(found, expected_answer(open_bundle(folder, variant=variant), task), TOLERANCES[variant])


@pytest.mark.parametrize(("task", "variant"), variants_of("text-generation", "translation", "summarization"))
def test_ids_are_ours(bundle_of, task, variant):
    folder = bundle_of(task)
    session = open_bundle(folder, variant=variant)
    ids = session.tokenizer.encode("What a day!")
    expected = session.generate(ids, max_new_tokens=13)
    found = ask("continue" if task == "text-generation" else "translate", folder, JAVASCRIPT_TYPES[variant], ids, 13)
    assert len(set(expected)) > 4
    assert found[0 if task == "text-generation" else 1:] == expected


@in_browser
@pytest.mark.parametrize("variant", JAVASCRIPT_TYPES)
@pytest.mark.parametrize("task", ["text-generation", "text-classification"])
def test_onnxruntime_web_gives_the_same(bundle_of, tmp_path, task, variant):
    folder = bundle_of(task)
    session = open_bundle(folder, variant=variant)
    code = lines_of(folder, PAGE).replace("onnx/model.onnx", main_file("onnx", variant))
    found = on_page(folder, code, tmp_path)
    if task == "text-generation":
        length = 3 + TOKENS[variant]
        assert found[:length] == session.generate([1, 2, 3], max_new_tokens=32, eos_token_id=())[:length]
        assert len(found) == 35 and len(set(found)) > 5
    else:
        expected = session.run("forward", {"token_ids": [[1, 2, 3]]})["logits"][0]
        limit = GATE[variant][0] * float(np.ptp(expected))  # of the gate
        assert found == pytest.approx(expected.tolist(), abs=limit)
        assert np.argmax(found) == np.argmax(expected)


@in_browser
@pytest.mark.parametrize(("task", "variant"), variants_of("text-generation", "feature-extraction", "translation"))
def test_the_lines_of_the_readme_run_on_a_page(bundle_of, tmp_path, task, variant):
    folder = bundle_of(task)
    build = "webgpu" if variant in ("none", "fp16") else "wasm"  # as the README says
    code = lines_of(folder, NODE, JAVASCRIPT_TYPES[variant]).replace(
        "max_new_tokens: 32", f"max_new_tokens: {TOKENS[variant]}")
    found = on_page(folder, code, tmp_path, build)
    expected = expected_answer(open_bundle(folder, variant=variant), task, TOKENS[variant])
    assert_like(found, expected, TOLERANCES[variant])


def test_another_model_is_told_apart(bundle_of, tmp_path):
    folder = shutil.copytree(bundle_of("text-generation"), tmp_path / "bundle")
    shutil.copy(folder / "onnx" / "model_q4.onnx", folder / "onnx" / "model.onnx")
    expected = open_bundle(bundle_of("text-generation")).generate([5, 3, 2], max_new_tokens=13, eos_token_id=())
    assert ask("continue", folder, "fp32", [5, 3, 2], 13) != expected
