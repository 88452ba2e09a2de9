"""The README of a bundle: how to run each of its files where it belongs."""
import string

from kzoo.export import readme_answering, readme_generation, readme_recurrent, readme_rewriting, readme_text
from kzoo.export.genai import JAVASCRIPT_TYPES
from kzoo.export.layouts import describe_layouts
from kzoo.export.signature_tables import ANSWERS, RECURRENT, REWRITING, kind_of
from kzoo.export.signatures import prefill_lengths, signatures
from kzoo.export.text_forms import reads_text
from kzoo.global_tokens import RULES

HEAD = string.Template("""\
# $title

Written by kzoo $version from a $family model ($parameters parameters, task `$task`). Every file below was opened in
its own runtime and compared with the model before this folder was made; `manifest.json` holds the results, and
`report.html` shows them.

| file | runtime | size | verified |
|---|---|---|---|
$table

## Python

    pip install kzoo$extra

    from kzoo.export import open_bundle, verify
    session = open_bundle(".", runtime="$runtime")
    print($call)
    print(verify(".").passed)
""")

# Of every task.
KERAS = string.Template("""
## Keras: go on training

    import kzoo
    model = kzoo.load("keras")
""")
JAVASCRIPT = string.Template("""\
**JavaScript (transformers.js), in Node and in pages**

    import { env, pipeline } from "@huggingface/transformers";
    env.allowLocalModels = true;
    env.localModelPath = "path/to/this/";       // of what holds the folder; in a page, its address
    const run = await pipeline("$task", "folder", { dtype: "$dtype" });
$before    console.log($call);

`dtype` chooses the file: $files.$pages
""")
PAGES = """ In a page, "int8" and "q4" need the plain build of
onnxruntime-web; the one that transformers.js takes by itself lacks their tables (GatherBlockQuantized):

    <script type="importmap">{ "imports": {
        "@huggingface/transformers": "/node_modules/@huggingface/transformers/dist/transformers.web.js",
        "onnxruntime-common": "/node_modules/onnxruntime-common/dist/esm/index.js",
        "onnxruntime-web/webgpu": "/node_modules/onnxruntime-web/dist/ort.wasm.bundle.min.mjs" } }</script>
"""
JAVASCRIPT_CALLS = {  # task -> what is asked, where it is not a text alone
    **dict.fromkeys(("text-generation", *REWRITING), 'await run("What a day!", { max_new_tokens: 32 })'),
    "question-answering": 'await run("Who came?", "Ann came.")',
    "fill-mask": "await run(`The ${run.tokenizer.mask_token} is here.`)",
}
WEB_SESSION = """\
    import * as ort from "onnxruntime-web";
    const session = await ort.InferenceSession.create("{file}");"""
TFLITE_CPP = """\
    auto model = tflite::FlatBufferModel::BuildFromFile("tflite/model.tflite");
    tflite::ops::builtin::BuiltinOpResolver resolver;
    std::unique_ptr<tflite::Interpreter> interpreter;
    tflite::InterpreterBuilder(*model, resolver)(&interpreter);"""


def render_readme(manifest):
    """README.md of a bundle, from its manifest."""
    sizes, artifacts = manifest["sizes"], manifest["artifacts"]
    bytes_of = {row["path"]: row["size"] for row in manifest["files"]}
    rows = [f"| `{row['file']}` | {row['runtime']} | {sum(bytes_of[name] for name in row['files']) / 1e6:.1f} MB | "
            f"{'yes' if row['verified'] else '**no**'} |" for row in artifacts]
    runtimes = list(dict.fromkeys(row["runtime"] for row in artifacts))
    has_tokenizer = bool({"tokenizer.json", "source.spm"} & bytes_of.keys())
    has_litertlm = any(name.endswith(".litertlm") for name in bytes_of)
    first = next(name for name in ("onnx", "tflite", "savedmodel", "keras") if name in runtimes)
    known = {"text-generation": _generation, RECURRENT: _recurrent, **dict.fromkeys(REWRITING, _rewriting)}
    describe = known.get(kind_of(manifest["task"], sizes), _answering)
    texts, values = describe(manifest, has_tokenizer)
    texts = {**texts, **readme_text.RUNTIMES, "keras": KERAS}
    values = {
        "title": f"A {manifest['family']} model", "version": manifest["kzoo"], "family": manifest["family"],
        "parameters": f"{manifest['parameters']:,}", "task": manifest["task"], "table": "\n".join(rows),
        "runtime": first, "extra": {"onnx": "", "tflite": "[tflite]"}.get(first, "[train]"),
        "context": sizes["max_sequence_length"], "folder": "path/to/this/folder", "name": manifest["family"],
        "tflite_cpp": TFLITE_CPP, "litertlm": readme_generation.LITERTLM if has_litertlm else "",
        **_javascript(manifest, "tokenizer.json" in bytes_of), **values, **_strings(manifest, artifacts)}
    parts = [HEAD, *(texts[name] for name in texts if name in runtimes)]
    return "".join(part.substitute(values) for part in parts) + describe_layouts(bytes_of)


def _javascript(manifest, has_tokenizer):
    """Values of the ONNX texts; transformers.js wants a tokenizer, as tokenizer.json."""
    files = {JAVASCRIPT_TYPES[row["variant"]]: row["file"] for row in manifest["artifacts"] if row["runtime"] == "onnx"}
    if not files:
        return {"javascript": "", "web_session": ""}
    task, dtype = manifest["task"], next(iter(files))
    call = JAVASCRIPT_CALLS.get(task, 'await run("What a day!")')
    if task == "feature-extraction":
        pooling, normalize = manifest["settings"]["pooling"], str(manifest["settings"]["normalize"]).lower()
        call = f'(await run("What a day!", {{ pooling: "{pooling}", normalize: {normalize} }})).tolist()'
    listed = ", ".join(f'"{name}" `{file}`' for name, file in files.items())
    before = ""
    if task == "question-answering" and manifest["sizes"]["num_segments"] > 1:
        before = "    run.tokenizer.return_token_type_ids = true;\n"  # the general tokenizer there leaves them out
    text = JAVASCRIPT.substitute(task=task, dtype=dtype, before=before, call=call, files=listed,
                                 pages=PAGES if {"int8", "q4"} & set(files) else "")
    return {"javascript": text if has_tokenizer else "", "web_session": WEB_SESSION.format(file=files[dtype])}


def _generation(manifest, has_tokenizer):
    """(texts, values) of a model that continues text."""
    sizes = manifest["sizes"]
    prompt = '"Hello"' if has_tokenizer else "[1, 2, 3]"
    return readme_generation.RUNTIMES, {
        "call": f"session({prompt}, max_new_tokens=32)", "heads": sizes["num_key_value_heads"],
        "room": sizes["static_length"], "width": sizes["head_dim"], "vocabulary": sizes["vocabulary_size"],
        "prefill": _listed(f"prefill_{length}" for length in prefill_lengths(sizes["static_length"]))}


def _recurrent(manifest, has_tokenizer):
    """(texts, values) of a model that continues text with a memory."""
    sizes = manifest["sizes"]
    prompt = '"Hello"' if has_tokenizer else "[1, 2, 3]"
    return readme_recurrent.RUNTIMES, {
        "call": f"session({prompt}, max_new_tokens=32)", "memory": sizes["memory_length"],
        "room": sizes["static_length"], "hidden": sizes["hidden_dim"], "vocabulary": sizes["vocabulary_size"]}


def _rewriting(manifest, has_tokenizer):
    """(texts, values) of a model that writes one text for another."""
    task, sizes = manifest["task"], manifest["sizes"]
    source = '"What a day!"' if has_tokenizer else "[3, 2, 1]"
    buckets = [name for name in signatures(task, "tflite", sizes) if name.startswith("encode")]
    return readme_rewriting.RUNTIMES, {
        "call": f"session({source}, num_beams=4)", "heads": sizes["num_key_value_heads"],
        "width": sizes["head_dim"], "vocabulary": sizes["vocabulary_size"], "static": sizes["static_length"],
        "buckets": _listed(buckets), "bucket": buckets[0], "start": manifest["settings"]["decoder_start_id"],
        "encode": f"inputs {_rows(signatures(task, 'onnx', sizes)['encode'].inputs)}"}


def _answering(manifest, has_tokenizer):
    """(texts, values) of a model that answers at once."""
    task, sizes = manifest["task"], manifest["sizes"]
    text = {"fill-mask": "The [MASK] is here."}.get(task, "What a day!")
    call = {"question-answering": 'session(question="Who came?", context="Ann came.")',
            "fill-mask": "session(f\"The {session.tokenizer.roles['mask']} is here.\")"}.get(task, f'session("{text}")')
    values = {"call": call if has_tokenizer else 'session.run("forward", {"token_ids": [[1, 2, 3]]})', "text": text,
              "optimum": readme_answering.OPTIMUM[task]}
    for runtime in ("onnx", "tflite", "savedmodel"):
        forms = list(signatures(task, runtime, sizes).values())
        for side in ("inputs", "outputs"):
            values[f"{runtime}_{side}"] = _rows(getattr(forms[-1], side))
    forms = signatures(task, "tflite", sizes)
    onnx = signatures(task, "onnx", sizes)["forward"]
    chosen = "i === 0 ? 1 : 0" if RULES.get(task) == "first" else "0"
    feeds = {"padding_mask": "tensor(ids.map(() => 1))", "segment_ids": "tensor(ids.map(() => 0))",
             "global_mask": f"tensor(ids.map((_, i) => {chosen}))"}
    values.update(web_output=onnx.outputs[-1].file_name, web_feeds=", ".join(
        f"{row.file_name}: {feeds.get(row.name, 'tensor(ids)')}" for row in onnx.inputs))
    values.update(buckets=_listed(forms), bucket=next(iter(forms)), savedmodel_call=", ".join(
        f"{row.file_name}={row.file_name}" for row in signatures(task, "savedmodel", sizes)["forward"].inputs))
    return readme_answering.RUNTIMES, values


def _strings(manifest, artifacts):
    """Values of the files that take strings."""
    values = {"text_cut": "Texts longer than the model are cut at their end." if manifest["task"] in ANSWERS else
              "Give the ids to the model."}
    for row in artifacts:
        if reads_text(row["runtime"]):
            forms = list(signatures(manifest["task"], row["runtime"], manifest["sizes"]).values())
            name = row["runtime"].replace("-", "_")
            values.setdefault(f"{name}_file", row["file"])
            values[f"{name}_outputs"] = _rows(forms[-1].outputs)
            values[f"{name}_first"] = forms[0].outputs[0].file_name
            values[f"{name}_signatures"], values[f"{name}_signature"] = (
                _listed(form.file_name for form in forms), forms[0].file_name)
    return values


def _rows(rows):
    return ", ".join(f"`{row.file_name}` {row.dtype} ({', '.join(map(str, row.shape))})" for row in rows)


def _listed(names):
    return ", ".join(f"`{name}`" for name in names)
