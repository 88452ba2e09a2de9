"""Run the benchmarks, one after the other, and write RESULTS.md from what they leave in results/.

    python benchmarks/run.py --peers PYTHON --keras-hub PYTHON [--only NAME ...] [--data FOLDER]

Each script measures in processes of its own, stores its rows when it is done, and can be run alone; `--missing` goes on
with a run that was interrupted. The exit status is 1 if a bar was missed. Standard library only.
"""
import argparse
import json
import os
import pathlib
import subprocess
import sys

import bench

# Script -> the options it takes, in the order of RESULTS.md.
SCRIPTS = {
    "startup": (),
    "fit_throughput": ("peers", "keras_hub"),
    "fit_encoders": ("peers", "keras_hub"),
    "training_step": (),
    "allocator": (),
    "beam_translation": (),
    "decode_gpt2_small": ("peers",),
    "translate_base": ("peers",),
    "read_texts_bert": ("peers",),
    "longformer_speed": ("peers",),
    "reformer_speed": ("peers",),
    "duplication": (),
    "export_gpt2_small": (),
    "transformer_xl_evaluation": (),
    "long_attention": (),
    "longformer_memory": (),
    "long_quality": ("data",),
    "faults": (),
    "shakespeare": ("data",),
    "imdb_keras_io": ("data",),
    "sst2": ("data",),
    "ag_news": ("data",),
    "scan": ("data",),
    "g2p": ("data",),
    "multi30k": ("data",),
    "multi30k_fairseq": ("fairseq", "data"),
    "gpu_jax": ("data",),
}
# Where the data of a script lies below the folder of data sets.
DATA = {"shakespeare": "tinyshakespeare/input.txt", "imdb_keras_io": "imdb", "sst2": "sst2", "ag_news": "ag_news",
        "scan": "scan", "g2p": "sigmorphon2020-g2p", "multi30k": "multi30k/bpe-en-de",
        "multi30k_fairseq": "multi30k/bpe-en-de", "gpu_jax": "tinyshakespeare/input.txt",
        "long_quality": "wikitext-2"}
# What runs only when asked for -> why.
ON_REQUEST = {"gpu_jax": ": it needs a GPU that JAX can use, and none was at hand",
              "multi30k": ": it takes hours on two cores",
              "multi30k_fairseq": ": it takes hours on two cores, and fairseq 0.9.0"}
JAX = ("gpu_jax",)
HEADER = """# Results

What kzoo is held to, measured: `make bench` repeats all of it and rewrites this file. Figures are medians of several
runs in which the contenders take turns, each in its own process and, for the peers, in its own environment
(`requirements-peers.txt`, `requirements-keras-hub.txt`). Absolute figures move from machine to machine, ratios less.
"""
NOT_MEASURED = """## {name}

Not measured yet{why}. To measure it:

    {command}
"""


def render(results):
    """RESULTS.md from the stored results, a dict of name -> result."""
    parts = [HEADER]
    for name, takes in SCRIPTS.items():
        if name in results:
            parts.append(bench.rows.section(results[name]) + "\n")
        else:
            command = f"{'KERAS_BACKEND=jax ' * (name in JAX)}python benchmarks/run.py --only {name}"
            command += "".join(f" --{option.replace('_', '-')} {'FOLDER' if option == 'data' else 'PYTHON'}"
                               for option in takes)
            parts.append(NOT_MEASURED.format(name=name, command=command, why=ON_REQUEST.get(name, "")))
    return "\n".join(parts)


def stored():
    """name -> result of every script that has run."""
    paths = {name: bench.RESULTS / f"{name}.json" for name in SCRIPTS}
    return {name: json.loads(path.read_text(encoding="utf-8")) for name, path in paths.items() if path.is_file()}


def chosen(args):
    """Names of the scripts to run."""
    names = args.only or [name for name in SCRIPTS if name not in ON_REQUEST]
    return [name for name in names if not (args.missing and name in stored())]


def command(name, args):
    """The command line of one script."""
    words = [sys.executable, str(bench.HERE / f"{name}.py")]
    for option in SCRIPTS[name]:
        value = data_of(name, args.data) if option == "data" else getattr(args, option)
        if value is not None:
            words += [f"--{option.replace('_', '-')}", str(value)]
    return words + ["--toy"] * args.toy


def data_of(name, data):
    """The data of a script in the folder `data`; `data` itself where that is a file."""
    return data if data is None or data.is_file() else data / DATA[name]


def parse(words=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peers", metavar="PYTHON", help="interpreter with requirements-peers.txt")
    parser.add_argument("--keras-hub", metavar="PYTHON", help="interpreter with requirements-keras-hub.txt")
    parser.add_argument("--fairseq", metavar="PYTHON", help="interpreter that finds fairseq 0.9.0")
    parser.add_argument("--data", type=pathlib.Path, default=bench.find_data(), metavar="FOLDER",
                        help="folder of the data sets, or the one file that a script reads")
    parser.add_argument("--only", nargs="+", choices=SCRIPTS, metavar="NAME", help=f"some of: {', '.join(SCRIPTS)}")
    parser.add_argument("--missing", action="store_true", help="leave out what has been measured")
    parser.add_argument("--render", action="store_true", help="only write RESULTS.md anew")
    parser.add_argument("--toy", action="store_true", help="tiny sizes, to see whether all runs; nothing is kept")
    return parser.parse_args(words)


def main():
    args, failed = parse(), []
    for name in [] if args.render else chosen(args):
        if "data" in SCRIPTS[name] and args.data is None:
            bench.say(f"{name}: left out, it needs --data FOLDER, with {DATA[name]} in it")
            continue
        bench.say(f"== {name}")
        variables = {"KERAS_BACKEND": "jax"} if name in JAX else {}
        if subprocess.run(command(name, args), env={**os.environ, **variables}).returncode:
            failed.append(name)
    if not args.toy:
        bench.rows.write_text(bench.HERE / "RESULTS.md", render(stored()))
    if failed:
        bench.say(f"missed a bar or failed: {', '.join(failed)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
