"""The folders that model servers want, inside a bundle: `triton/`, `tfserving/`, `kserve/`.

They hold the verified files once more, under the names that a server looks for, as hard links: those take no room, ask
no server to follow symbolic links, and stay whole when the bundle is copied, packed or uploaded. (A plain copy turns
them into files of their own; `cp -a`, `rsync -H` and tar keep them one.) Where a file system has no hard links they are
copies. The manifest lists them like all files, so that verification finds damage in them.
"""
import os
import pathlib
import shutil
import string

from kzoo.errors import unknown
from kzoo.export.artifact import main_file
from kzoo.files import write_atomic

# Layout -> the formats that it serves; it needs one of them.
LAYOUTS = {"triton": ("onnx",), "tfserving": ("savedmodel",), "kserve": ("onnx", "savedmodel")}
VERSION = "1"

# What Triton calls the types of tensors.
TRITON_DTYPES = {"bool": "TYPE_BOOL", "int32": "TYPE_INT32", "int64": "TYPE_INT64", "float16": "TYPE_FP16",
                 "float32": "TYPE_FP32", "string": "TYPE_STRING"}

# A batch size of 0 says that dims are those of the graph, the batch's included. Then Triton joins no requests, which
# would have to be of one length.
CONFIG = string.Template("""\
name: "$name"
backend: "onnxruntime"
max_batch_size: 0
$tensors
""")
TENSORS = string.Template("""\
$side [
$rows
]""")

# KServe runs ONNX files in Triton and SavedModels in TensorFlow Serving, each from a folder as that server wants it.
SERVICE = string.Template("""\
# Put what the folder `storage` holds where your cluster finds it, and name that place in storageUri:
# pvc://CLAIM/PATH, s3://BUCKET/PATH or gs://BUCKET/PATH.
apiVersion: serving.kserve.io/v1beta1
kind: InferenceService
metadata:
  name: $name
spec:
  predictor:
    model:
      runtime: $runtime
      protocolVersion: $protocol
      modelFormat:
        name: $format
      storageUri: pvc://models/$name
""")
SERVICES = {"onnx": {"runtime": "kserve-tritonserver", "protocol": "v2", "format": "onnx"},
            "savedmodel": {"runtime": "kserve-tensorflow-serving", "protocol": "v1", "format": "tensorflow"}}

# Layout -> how its server starts, in the README of a bundle; `name` is that of a folder of the layout.
COMMANDS = {
    "triton": "tritonserver --model-repository=$PWD/triton",
    "tfserving": "tensorflow_model_server --rest_api_port=8501 --model_name={name} "
                 "--model_base_path=$PWD/tfserving/{name}",
    "kserve": "kubectl apply -f kserve/{name}/inference_service.yaml    # its first lines say what to change",
}


def check_layouts(layouts, formats):
    """The names of layouts, each once.

    Args:
        layouts: names, or one.
        formats: what is going to be exported.

    Raises: ValueError for an unknown layout, and for one that serves none of the formats.
    """
    layouts = tuple(dict.fromkeys([layouts] if isinstance(layouts, str) else layouts))
    for name in layouts:
        if name not in LAYOUTS:
            raise ValueError(unknown("layout", name, LAYOUTS))
        if not set(LAYOUTS[name]) & set(formats):
            raise ValueError(f"The layout {name!r} needs the format {' or '.join(map(repr, LAYOUTS[name]))}, and "
                             f"`formats` (--formats) has only {', '.join(formats)}.")
    return layouts


def write_layouts(folder, family, artifacts, layouts):
    """Write servers' folders into a bundle that is being made.

    Args:
        folder: the bundle.
        family: what models are called there, before their part and their variant.
        artifacts: the verified ones.
        layouts: names, as `check_layouts` returns.
    """
    for layout in layouts:
        for artifact in artifacts:
            if artifact.runtime in LAYOUTS[layout]:
                WRITERS[layout](pathlib.Path(folder), family, artifact)


def describe_layouts(paths):
    """The lines on servers in the README of a bundle; empty if there is none.

    Args:
        paths: of the files in the bundle.
    """
    text = ""
    for layout, command in COMMANDS.items():
        names = sorted({path.split("/")[1] for path in paths if path.startswith(f"{layout}/")})
        if names:
            text += f"`{layout}/` holds {', '.join(names)}:\n\n    {command.format(name=names[0])}\n\n"
    return text and (f"\n## Servers\n\n{text}These are the files above once more, under names that servers look for "
                     "(as hard links, where the file system has them).\n")


def _write_triton(folder, family, artifact, top="triton"):
    """A model for each graph: `<model>/config.pbtxt` and `<model>/1/model.onnx`, a folder where data lies beside it."""
    for form in artifact.signatures.values():
        source = folder / main_file("onnx", artifact.variant, form["file_name"])
        name = _model_name(family, artifact, "" if form["file_name"] == "model" else form["file_name"])
        place = folder / top / name
        graph = place / VERSION / "model.onnx"
        data = _data_files(source, artifact)
        _link(source, graph / "model.onnx" if data else graph)
        for each in data:
            _link(each, graph / each.name)
        write_atomic(place / "config.pbtxt", CONFIG.substitute(name=name, tensors="\n".join(
            _tensors(side, form[f"{side}s"]) for side in ("input", "output"))))


def _write_tfserving(folder, family, artifact):
    """`<model>/1/saved_model.pb`, with the variables beside it."""
    _link_saved_model(folder, artifact, folder / "tfserving" / _model_name(family, artifact))


def _write_kserve(folder, family, artifact):
    """`<service>/inference_service.yaml` and `<service>/storage/`, for each artifact that KServe can serve."""
    name = _model_name(family, artifact, artifact.runtime).lower().replace("_", "-")  # Kubernetes allows no more
    top = pathlib.PurePosixPath("kserve") / name
    if artifact.runtime == "onnx":
        _write_triton(folder, family, artifact, top / "storage")
    else:
        _link_saved_model(folder, artifact, folder / top / "storage")
    write_atomic(folder / top / "inference_service.yaml",
                 SERVICE.substitute(name=name, **SERVICES[artifact.runtime]))


def _model_name(family, artifact, part=""):
    return "_".join(filter(None, [family, part, "" if artifact.variant == "none" else artifact.variant]))


def _tensors(side, rows):
    return TENSORS.substitute(side=side, rows=",\n".join(
        f'  {{ name: "{row["file_name"]}" data_type: {TRITON_DTYPES[row["dtype"]]} '
        f'dims: [ {", ".join(str(size if isinstance(size, int) else -1) for size in row["shape"])} ] }}'
        for row in rows))


def _data_files(source, artifact):
    """The files beside an ONNX graph that hold its tensors."""
    if not any(name.endswith("_data") for name in artifact.files):
        return []
    import onnx

    model = onnx.load(source, load_external_data=False)
    return sorted({source.with_name(entry.value) for tensor in model.graph.initializer
                   for entry in tensor.external_data if entry.key == "location"})


def _link_saved_model(folder, artifact, place):
    for name in artifact.files:
        path = pathlib.PurePosixPath(name)
        if path.is_relative_to(artifact.file):
            _link(folder / name, place / VERSION / path.relative_to(artifact.file))


def _link(source, place):
    place.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, place)
    except OSError:  # the file system has no hard links
        shutil.copy2(source, place)


WRITERS = {"triton": _write_triton, "tfserving": _write_tfserving, "kserve": _write_kserve}
