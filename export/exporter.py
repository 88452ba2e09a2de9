"""`export`: one model in, a verified bundle out."""
import dataclasses
import datetime
import importlib.metadata
import math
import pathlib
import platform
import shutil
import sys

import kzoo
from kzoo.errors import CheckFailed, unknown
from kzoo.export.artifact import GOLDEN, Artifact, list_files, read_bundle
from kzoo.export.extras import write_extras
from kzoo.export.latency import describe_speed
from kzoo.export.layouts import check_layouts, write_layouts
from kzoo.export.manifest import FORMAT_VERSION, write_manifest
from kzoo.export.process import run_worker
from kzoo.export.quality import measure_reference
from kzoo.export.signature_tables import ANSWERS, FORWARD, REWRITING
from kzoo.export.signatures import check_static_length, settings_of, signatures, sizes_of
from kzoo.export.target import TARGETS, get_target
from kzoo.export.text_forms import CORES, reads_text, text_formats
from kzoo.files import atomic_folder, check_target, write_atomic, write_json

FORMATS = ("savedmodel", "onnx", "tflite")
LIBRARIES = ("keras", "tensorflow", "numpy", "onnx", "onnxruntime", "tf2onnx", "ai-edge-litert", "tokenizers")


def export(model, path, formats=FORMATS, quantize=("none",), text=False, portable=False, static_length=None,
           overwrite=False, keep_failed=False, eval_data=None, eval_limit=None, eval_options=None,
           calibration_data=None, layout=(), progress=None, **sections):
    """Write a bundle: the model in several file formats, each opened in its own runtime and compared with the model.

    Every conversion and every comparison runs in a process of its own, one after the other.

    Args:
        model: a kzoo task model.
        path: the folder to make.
        formats: some of "savedmodel", "onnx", "tflite", and "keras" for the weights to train on.
        quantize: variants to write: "none", which is float32, in every format; "fp16", "int8" and "int4" as ONNX and
            TFLite; of models that answer a text at once "int8_full" as TFLite, whose arithmetic is all of 8 bits. A
            format that lacks a variant is written in the others.
        text: also write files that take strings, their tokenizer inside, for formats that have operators for it: beside
            each file of a model that answers one text, another one with the whole model; for a model that generates,
            one file a format that makes the ids. Their ids are compared with the tokenizer's on texts where
            tokenizers differ.
        portable: keep ONNX files to the standard's operators, for runtimes that have no others; ONNX Runtime is slower
            with them. They have no "int8" and "int4".
        static_length: tokens that TFLite files of models that generate have room for, prompt included; None means all
            that the model reads, or 512 without a limit. Every step takes time for the whole room: GPT-2 small with
            room for 128 tokens is three times as fast as with 1,024.
        overwrite: replace an existing folder.
        keep_failed: keep artifacts that fail verification.
        eval_data: file or files as for `kzoo.evaluation.evaluate`: each quantised artifact is measured on it.
        eval_limit: by how much its metric may be worse than the model's; None means what `kzoo.export.quality.METRICS`
            say: 1 point, of perplexity 2 %.
        eval_options: dict of options for `evaluate`.
        calibration_data: for "int8_full", file or files as for `evaluate`: the ranges of its numbers are taken from a
            hundred texts of it. Use data like that which the model will read, and not the one it is measured on.
        layout: folders for model servers to add: some of "triton", "tfserving", "kserve"; see `kzoo.export.layouts`.
        progress: called with a line of text as the work goes on; None prints to stderr.
        sections: more of the report, see `kzoo.export.report.render_report`: `history`, `samples`.

    Returns: the `Bundle`; it can be given wherever a folder can.
    Raises: ValueError for an unknown format, quantisation or layout, a layout without its format, or a tokenizer that
        no file can hold or that gives other ids inside of it; FileExistsError if the folder exists; CheckFailed if an
        artifact failed verification (the others are kept, the failed one goes unless `keep_failed`) or could not be
        written at all (nothing is kept).
    """
    progress = progress or (lambda line: print(line, file=sys.stderr, flush=True))
    check_target(path, overwrite)
    plan = make_plan(formats, quantize, portable)
    layouts = check_layouts(layout, list(dict.fromkeys(target.name for target, _ in plan)))
    if eval_data is None and (eval_limit is not None or eval_options):
        raise ValueError("`eval_limit` and `eval_options` need `eval_data`, the data to measure on.")
    if calibration_data is not None and not any(variant in target.calibrated for target, variant in plan):
        raise ValueError("`calibration_data` (--calibration-data) is for variants that are made from it, and "
                         "`quantize` (--quantize) names none. Add int8_full, or leave the data out.")
    if eval_data is not None and all(variant == "none" for _, variant in plan):
        raise ValueError("`eval_data` (--eval-data) measures quantised variants, and `quantize` (--quantize) names "
                         "none. Add one, such as int8, or leave the data out.")
    if not hasattr(model, "backbone") or not hasattr(model, "task"):
        raise TypeError("`model` must be a kzoo task model, as kzoo.create and kzoo.load make. "
                        f"Received: {type(model).__name__}.")
    if model.task not in FORWARD:
        raise ValueError(f"Models of the task {model.task!r} cannot be exported; those of "
                         f"{', '.join(FORWARD)} can.")
    obstacle = model.backbone.export_obstacle()
    if obstacle is not None:
        raise ValueError(obstacle)
    check_static_length(model, static_length)
    for target, variant in plan:
        target.check_calibration(variant, model.task, calibration_data)
        target.check_size(model)
    if text:
        plan, remarks = add_text(plan, model)
        for remark in remarks:
            progress(remark)
    with atomic_folder(path, overwrite) as folder:
        folder = folder.resolve()
        run, work = folder / ".run", folder / ".work"
        manifest = {**describe(model, static_length), **({"portable": True} if portable else {})}
        write_reference(model, folder, run, progress, manifest["sizes"])
        write_shared(model, folder)
        reference = None
        if eval_data is not None:
            progress("measuring the model on the data")
            reference = measure_reference(model, _absolute(eval_data), eval_limit, eval_options)
        artifacts = []
        for target, variant in plan:
            artifacts.append(_convert(
                target, variant, folder, run, work / "convert", manifest, progress, _absolute(calibration_data)))
        failed = {}
        for i, artifact in enumerate(artifacts):
            artifacts[i], rows = _check(artifact, folder, work / "check", manifest, progress, reference)
            if not rows and reads_text(artifact.runtime):  # it holds the same graph, and is nothing without the other
                core = dataclasses.replace(artifact, runtime=CORES[artifact.runtime]).name
                rows = failed.get(core, ())
            if rows:
                failed[artifact.name] = rows
        if not keep_failed:
            artifacts = [artifact for artifact in artifacts if artifact.name not in failed or _remove(folder, artifact)]
        if not artifacts:
            raise CheckFailed(f"{_complain(failed)} Nothing was kept.")
        for used in (run, work):
            shutil.rmtree(used, ignore_errors=True)
        artifacts = [dataclasses.replace(artifact, files=(*artifact.files, *write_extras(
            model, folder, artifact.runtime, artifact.variant, manifest["sizes"]))) for artifact in artifacts]
        write_layouts(folder, manifest["family"], [each for each in artifacts if each.verification["passed"]], layouts)
        finish(folder, manifest, artifacts, sections)
    if failed:
        kept = "It was kept as asked" if keep_failed else "It was removed"
        raise CheckFailed(f"{_complain(failed)} {kept}; the bundle is in {path}.")
    progress(f"{path}: {len(artifacts)} artifacts, all verified")
    return read_bundle(path)


def make_plan(formats, quantize, portable=False):
    """(target, variant) pairs in the order of writing.

    Raises: ValueError for an unknown name, for a variant that none of the formats has, and for a format that has
        none of the variants.
    """
    formats, quantize = _names("formats", formats), _names("quantize", quantize)
    for name in formats:
        if name not in TARGETS:
            raise ValueError(unknown("format", name, TARGETS))
    targets = [get_target(name, portable) for name in TARGETS if name in formats]
    offered = list(dict.fromkeys(variant for target in targets for variant in target.quantisations))
    for variant in quantize:
        if variant not in offered:
            for target in targets:
                if variant in type(target).quantisations:
                    target.check(variant)  # which says why it does not have it now
            raise ValueError(unknown("quantisation", variant, offered))
    plan = [(target, variant) for target in targets for variant in target.quantisations if variant in quantize]
    for target in targets:
        if not any(target is planned for planned, _ in plan):
            target.check(quantize[0])
    return plan


def add_text(plan, model):
    """(the plan with files that take strings behind each format, sentences on formats that have none)."""
    formats = list(dict.fromkeys(target.name for target, _ in plan))
    found, remarks = text_formats(model.task, model.tokenizer, formats)
    result = []
    for name in formats:
        planned = [variant for target, variant in plan if target.name == name]
        result += [(target, variant) for target, variant in plan if target.name == name]
        for runtime in found:
            if CORES[runtime] == name:
                variants = planned if model.task in ANSWERS else ["none"]  # a tokenizer has nothing to quantise
                reading = get_target(runtime)
                result += [(reading, variant) for variant in variants if variant in reading.quantisations]
    return result, remarks


def _absolute(data):
    """Paths that a process with another working directory finds."""
    paths = data if isinstance(data, (list, tuple)) else [] if data is None else [data]
    return [pathlib.Path(path).resolve() for path in paths]


def _names(argument, values):
    values = [values] if isinstance(values, str) else list(values)
    if not values:
        raise ValueError(f"`{argument}` is empty; name at least one.")
    return list(dict.fromkeys(values))


def describe(model, static_length=None):
    """The manifest's fields about the model and what wrote it."""
    versions = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {"format": FORMAT_VERSION, "kzoo": kzoo.__version__, "versions": versions,
            "created": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
            "family": model.family.name, "task": model.task,
            "parameters": sum(math.prod(weight.shape) for weight in model.trainable_weights),
            "config": model.config.to_dict(), "sizes": sizes_of(model, static_length),
            "settings": settings_of(model)}


def write_reference(model, folder, run, progress, sizes):
    """The run folder that conversions start from, and the live model's answers."""
    from kzoo.export.golden import record_golden, save_golden
    from kzoo.export.keras_session import live_session
    from kzoo.saving import load, save

    progress("recording what the model says")
    save(model, run)
    if model.dtype_policy.name != "float32":
        # Files hold float32; a mixed-precision model is compared by its float32 weights, not by its rounding.
        model = load(run, dtype="float32")
    save_golden(folder / GOLDEN, record_golden(live_session(model, sizes)))


def write_shared(model, folder):
    """Configs and tokenizer, which every runtime reads."""
    from kzoo.export.genai import hugging_face_files

    for name, value in hugging_face_files(model).items():
        write_json(folder / name, value)
    tokenizer = model.tokenizer
    if tokenizer is not None:
        if model.task in REWRITING:  # other programs add what the files say, and no more
            tokenizer = tokenizer.ending_with(model.config.eos_id)
        tokenizer.save(folder)


def _convert(target, variant, folder, run, work, manifest, progress, calibration_data):
    """Write one artifact."""
    place = target.path(variant, manifest["task"])
    name = Artifact(target.name, variant, place, ()).name
    progress(f"{name}: converting")
    result = run_worker(f"converting to {name}", work, command="convert", format=target.name, quantize=variant,
                        run=str(run), bundle=str(folder), portable=manifest.get("portable", False),
                        static_length=manifest["sizes"].get("static_length"),
                        calibration_data=list(map(str, calibration_data)))
    files = result["files"]
    size = sum((folder / file).stat().st_size for file in files)
    peak = f", peak memory {result['peak_memory'] / 1e9:.1f} GB" if result["peak_memory"] else ""
    progress(f"{name}: {size / 1e6:.1f} MB in {result['seconds']:.0f} s{peak}")
    forms = signatures(manifest["task"], target.name, manifest["sizes"])
    return Artifact(target.name, variant, place, tuple(files),
                    {form.name: form.to_dict() for form in forms.values() if not form.derived},
                    record={"seconds": result["seconds"], "peak_memory": result["peak_memory"]})


def _check(artifact, folder, work, manifest, progress, reference=None):
    """(the artifact with its verification, the rows that failed)."""
    measured = reference is not None and artifact.variant != "none" and not reads_text(artifact.runtime)
    quality = reference._asdict() if measured else None
    result = run_worker(f"verifying {artifact.name}", work, command="check", artifact=artifact.spec(),
                        manifest=manifest, bundle=str(folder), golden=str(folder / GOLDEN), quality=quality, timed=True)
    for row in result["rows"]:
        if row["passed"] is None:  # while exporting there is no such thing as a check that could not be run
            row["passed"] = False
    failed = [row for row in result["rows"] if not row["passed"]]
    speed = describe_speed(result["latency"])
    progress(f"{artifact.name}: {'FAILED' if failed else 'passed'} {len(result['rows']) - len(failed)} of "
             f"{len(result['rows'])} checks" + (f", {speed}" if speed else ""))
    verification = {"passed": not failed, "rows": result["rows"]}
    record = {**artifact.record, "latency": result["latency"], **result["record"]}
    return dataclasses.replace(artifact, verification=verification, record=record), failed


def finish(folder, manifest, artifacts, sections):
    """README, report and, last, the manifest, which lists them all."""
    from kzoo.export.readme import render_readme
    from kzoo.export.report import render_report

    manifest = {**manifest, "artifacts": [artifact.to_dict() for artifact in artifacts]}
    manifest["files"] = _rows(list_files(folder))
    write_atomic(folder / "README.md", render_readme(manifest))
    write_atomic(folder / "report.html", render_report(manifest, **sections))
    manifest["files"] = _rows(list_files(folder))
    write_manifest(folder, manifest)


def _rows(files):
    return [{"path": path, "size": size, "sha256": digest} for path, (size, digest) in files.items()]


def _remove(folder, artifact):
    for name in artifact.files:
        (folder / name).unlink(missing_ok=True)
    main = folder / artifact.file
    for left in (main, *main.parents):
        if left == folder:
            break
        if left.is_dir() and not any(child.is_file() for child in left.rglob("*")):
            shutil.rmtree(left)
    return False


def _complain(failed):
    """What failed, in a sentence an artifact."""
    sentences = []
    for name, rows in failed.items():
        row = rows[0]
        value = f" ({row['value']:.2g}, limit {row['limit']:.2g})" if row["value"] and row["limit"] else ""
        note = f": {row['note']}" if row["note"] else ""
        more = f", and {len(rows) - 1} more checks" if len(rows) > 1 else ""
        sentences.append(f"{name} failed verification: {row['check']}{value}{note}{more}.")
    return " ".join(sentences)
