"""Export of GPT-2 small, random weights, to three formats: time, size and memory."""
import json
import shutil
import sys

import bench

TITLE = "Exporting GPT-2 small: seconds, size, memory"
FORMATS = ("savedmodel", "onnx", "tflite")
BARS = {"onnx seconds": "<= 20", "tflite seconds": "<= 60", "onnx size": "<= 505", "seconds": "<= 360",
        "memory": "<= 10"}
TEXT = ("Random weights, float32. A conversion is the time of its process, from its start to the file; an export is "
        "all that `export` does: conversions, verification of every file in its own runtime, hashes, report. All "
        "processes are the one that holds the live model and the one that converts for it, together; the weights are "
        "{weights:.0f} MB. A plain tf2onnx call took 163 s and 652 MB on a machine of this kind.")


def main():
    args = bench.options(TITLE, rounds=3).parse_args()
    started = bench.machine.describe()
    preset, overrides = ("gpt2-nano", {"num_layers": 2}) if args.toy else ("gpt2-small", {})
    runs, onnx_runs = [], []
    for _ in range(args.rounds):
        for formats, found in ((FORMATS, runs), (("onnx",), onnx_runs)):
            found.append(bench.run_once(
                sys.executable, bench.HERE / "contenders" / "export_kzoo.py", preset, json.dumps(overrides),
                ",".join(formats), bench.WORK / "export"))
    shutil.rmtree(bench.WORK / "export")

    def row(name, read, unit, bar=None, of=runs):
        return bench.rows.Row(name, [read(run) for run in of if read(run) is not None], unit, bar)

    def hungriest(run):
        peaks = [each["peak_memory"] for each in run["artifacts"].values() if each["peak_memory"]]
        return max(peaks) / run["weights"] if peaks else None

    def times(run, key):
        return run[key] and run[key] / run["weights"]

    table = []
    for name in FORMATS:
        table += [
            row(f"{name}: conversion", lambda run, name=name: run["artifacts"][name]["seconds"], "s",
                BARS.get(f"{name} seconds")),
            row(f"{name}: verification", lambda run, name=name: run["artifacts"][name]["verification_seconds"], "s"),
            row(f"{name}: size", lambda run, name=name: run["artifacts"][name]["size"] / 1e6, "MB",
                BARS.get(f"{name} size")),
            row(f"{name}: peak memory of the conversion", lambda run, name=name:
                run["artifacts"][name]["peak_memory"] and run["artifacts"][name]["peak_memory"] / 1e9, "GB")]
    table += [
        row("hungriest conversion: peak memory / weights", hungriest, "x"),
        row("export to ONNX alone, verification included", lambda run: run["seconds"], "s", of=onnx_runs),
        row("export to all three, verification included", lambda run: run["seconds"], "s", BARS["seconds"]),
        row("all three: peak memory of one process / weights", lambda run: times(run, "largest"), "x", BARS["memory"]),
        row("all three: peak memory of all processes / weights", lambda run: times(run, "peak"), "x")]
    text = TEXT.format(weights=runs[0]["weights"] / 1e6)
    versions = bench.own_versions("keras", "tensorflow", "tf2onnx", "onnx", "onnxruntime", "ai-edge-litert")
    return bench.finish(args, "export_gpt2_small", TITLE, text, table, versions, started)


if __name__ == "__main__":
    sys.exit(main())
