"""What exports leave that are killed, and what reading a damaged bundle says, for every file of it; a tiny model."""
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import time

import bench

TITLE = "Faults: exports that are killed, bundles that are damaged"
TEXT = ("A GPT-2 of two layers. An export is killed at a random moment: SIGKILL, a SIGTERM, or Ctrl-C for it and its "
        "worker alike; half of them replace a bundle that is there. The next export is what cleans up, and then is "
        "killed itself; the last one goes to its end. Damage is one to eight bytes of one file, drawn anew each time: "
        "first as it happens on a disk, then with the manifest made to agree, so that runtimes are handed the file.")
MODEL = """
import sys, kzoo
tokenizer = kzoo.train_tokenizer("byte-bpe", ["the quick brown fox jumps over the lazy dog"] * 9, vocabulary_size=300)
kzoo.save(kzoo.create("gpt2-nano", tokenizer=tokenizer, vocabulary_size=307, num_layers=2, num_heads=2, hidden_dim=16,
                      intermediate_dim=20, max_sequence_length=48), sys.argv[1])
"""
# Replaces a folder again and again, so that a kill often falls between its two renames.
REPLACING = """
import itertools, sys
from kzoo.files import atomic_folder
for number in itertools.count():
    with atomic_folder(sys.argv[1], overwrite=True) as work:
        for name in "abc":
            (work / name).write_text(str(number))
    if not number:
        print("begun", flush=True)
"""
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGKILL, signal.SIGINT)
PATIENCE = 30  # seconds in which a worker must have followed its parent


def main():
    parser = bench.options(TITLE)
    parser.add_argument("--times", type=int, default=50, metavar="N", help="exports to kill; default 50")
    parser.add_argument("--swaps", type=int, default=200, metavar="N",
                        help="processes to kill while they replace a folder; default 200")
    parser.add_argument("--flips", type=int, default=20, metavar="N", help="damages of each file; default 20")
    parser.add_argument("--handed", type=int, default=40, metavar="N",
                        help="damaged files that are handed to their runtime; default 40")
    args = parser.parse_args()
    if args.toy:
        args.times, args.swaps, args.flips, args.handed = 2, 5, 1, 1
    bench.use_checkout()
    started, work = bench.machine.describe(), bench.WORK / "faults"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    run(sys.executable, "-c", MODEL, work / "run")
    table = killed(work, args.times) + replaced(work, args.swaps)
    table += damaged(work, args.flips) + handed(work, args.handed)
    shutil.rmtree(work)
    versions = bench.own_versions("keras", "tensorflow", "onnxruntime", "ai-edge-litert")
    return bench.finish(args, "faults", TITLE, TEXT, table, versions, started)


def none_of(name, found, note=""):
    return bench.rows.Row(name, [found], "", "<= 0", note)


def run(*command):
    subprocess.run([str(word) for word in command], check=True, env=bench.environment(), cwd=bench.WORK,
                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def export(work, target, *options):
    """The command line of an export."""
    return [sys.executable, "-m", "kzoo", "export", str(work / "run"), str(target), *options]


def killed(work, times):
    """Rows on exports that were killed."""
    place = work / "killed"
    place.mkdir()
    target, draw = place / "bundle", random.Random(0)
    formats = ("--formats", "onnx")  # the others are written in the same way and take longer
    start = time.perf_counter()
    run(*export(work, place / "whole", *formats))
    seconds = time.perf_counter() - start
    found = {"writing": 0, "half": 0, "alive": 0, "stale": 0, "left": 0}
    done = 0
    while done < times:
        replaces = done % 2 == 1
        if replaces and not target.exists():
            shutil.copytree(place / "whole", target)
        elif not replaces:
            shutil.rmtree(target, ignore_errors=True)
        before, start = leftovers(place), time.perf_counter()
        process = subprocess.Popen(export(work, target, *formats, "--overwrite"), env=bench.environment(), cwd=work,
                                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
        try:
            process.wait(draw.uniform(0, seconds))
            seconds = time.perf_counter() - start  # the machine has become faster: no kill
            continue
        except subprocess.TimeoutExpired:
            pass
        number, at_work = SIGNALS[done % len(SIGNALS)], leftovers(place) - before
        if number == signal.SIGINT:
            os.killpg(process.pid, number)  # as a terminal sends it
        else:
            process.send_signal(number)
        process.wait()
        found["writing"] += bool(at_work)
        found["alive"] += not worker_has_ended(place)
        found["half"] += not whole(target, may_be_missing=not replaces)
        found["stale"] += len(before & leftovers(place)) if at_work else 0
        found["left"] += bool(at_work & leftovers(place)) and number != signal.SIGKILL
        done += 1
        bench.say(f"{done}: {signal.Signals(number).name}, {'while writing' if at_work else 'before writing'}, {found}")
    run(*export(work, target, *formats, "--overwrite"))
    rest = sorted(path.name for path in place.iterdir() if path.name not in ("bundle", "whole"))
    return [bench.rows.Row("exports killed", [done], "", note=f"{found['writing']} of them while they wrote"),
            none_of("half-written bundles at the target", found["half"] + (not whole(target))),
            none_of(f"workers alive {PATIENCE} s after their export", found["alive"]),
            none_of("temporary folders that the next export left", found["stale"] + len(rest)),
            none_of("temporary folders after SIGTERM and Ctrl-C", found["left"], "these clean up themselves")]


def replaced(work, times):
    """Rows on processes that were killed while they replaced a folder."""
    from kzoo.files import atomic_folder, check_target

    place = work / "replaced"
    place.mkdir()
    target, draw, aside, wrong = place / "folder", random.Random(0), 0, 0
    for _ in range(times):
        process = subprocess.Popen([sys.executable, "-c", REPLACING, str(target)], stdout=subprocess.PIPE,
                                   env=bench.environment())
        process.stdout.readline()
        time.sleep(draw.uniform(0, 0.1))
        process.kill()
        process.communicate()
        aside += not target.exists()
        try:
            check_target(target)  # as the next process does, which puts back what was moved aside
        except FileExistsError:
            wrong += len({path.read_text() for path in target.iterdir()}) != 1 or len(list(target.iterdir())) != 3
        else:
            wrong += 1
    with atomic_folder(target, overwrite=True):
        pass
    rest = [path.name for path in place.iterdir() if path != target]
    return [bench.rows.Row("folders whose replacement was killed", [times], "",
                           note=f"{aside} of them between the two renames"),
            none_of("of these lost or half-written, or with something left beside them", wrong + len(rest))]


def leftovers(place):
    return {path.name for path in place.iterdir() if path.name.startswith(".")}


def whole(target, may_be_missing=False):
    """Whether a folder is a bundle whose every file is as its manifest says."""
    from kzoo.export import read_bundle

    if not target.exists():
        return may_be_missing
    try:
        bundle = read_bundle(target)
        bundle.check_files(bundle.files)
    except (OSError, ValueError):
        return False
    return True


def worker_has_ended(place):
    """Whether no process is left that was started on files in `place`."""
    for _ in range(10 * PATIENCE):
        commands = []
        for path in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
            try:
                commands.append(path.read_bytes())
            except OSError:  # it has ended meanwhile
                continue
        if not any(b"kzoo.export.worker" in command and bytes(place) in command for command in commands):
            return True
        time.sleep(0.1)
    return False


def damage(path, draw):
    """Change one to eight bytes of a file; returns what it held before."""
    content = path.read_bytes()
    changed = bytearray(content)
    for place in draw.sample(range(len(content)), min(draw.randint(1, 8), len(content))):
        changed[place] ^= draw.randint(1, 255)
    path.write_bytes(changed)
    return content


def damaged(work, flips):
    """Rows on a bundle whose files are damaged on the disk: reading must name the file."""
    from kzoo.export import open_bundle, read_bundle
    from kzoo.export.verify import check_bundle_files

    folder, draw, tried, missed = work / "bundle", random.Random(1), 0, []
    run(*export(work, folder, "--formats", "keras,savedmodel,onnx,tflite", "--quantize", "none,fp16,int8,int4"))
    bundle = read_bundle(folder)
    owners = {path: artifact for artifact in bundle.artifacts for path in artifact.files}
    for path in [*bundle.files, "manifest.json"]:
        for _ in range(flips):
            kept = damage(folder / path, draw)
            tried += 1
            try:
                rows, _ = check_bundle_files(read_bundle(folder))
                named = any(str(folder / path) in row["note"] for row in rows if not row["passed"])
            except ValueError as error:
                named = str(folder / path) in str(error)
            artifact = owners.get(path, bundle.find("onnx"))
            try:
                open_bundle(folder, artifact.runtime, artifact.variant)
                named &= path not in owners and path not in (*bundle.shared_files(), "manifest.json")
            except ValueError as error:
                named &= str(folder / path) in str(error)
            if not named:
                missed.append(path)
            (folder / path).write_bytes(kept)
    return [bench.rows.Row("damaged files", [tried], "", note=f"{flips} times each of {len(bundle.files) + 1}"),
            none_of("damage that neither was named by `verify` nor refused by `open_bundle`", len(missed),
                    ", ".join(sorted(set(missed))))]


def handed(work, times):
    """Rows on damaged files with hashes that agree: `verify` must say how it went, whatever a runtime makes of them."""
    from kzoo.export import read_bundle, verify
    from kzoo.export.exporter import finish

    folder, draw, ended = work / "bundle", random.Random(2), {"failed": 0, "passed": 0, "crashed": 0, "raised": 0}
    bundle = read_bundle(folder)
    artifacts = [artifact for artifact in bundle.artifacts if artifact.runtime != "keras"]
    rest = {name: value for name, value in bundle.manifest.items() if name not in ("files", "artifacts")}
    manifest = (folder / "manifest.json").read_bytes()
    for number in range(times):
        artifact = artifacts[number % len(artifacts)]
        path = folder / draw.choice([path for path in artifact.files if not path.endswith((".json", ".litertlm"))])
        kept = damage(path, draw)
        (folder / "manifest.json").unlink()
        finish(folder, rest, bundle.artifacts, {})
        try:
            report = verify(folder, runtimes=[artifact.runtime], variants=[artifact.variant], timeout=600)
            crashed = any("was killed by" in row["note"] for row in report.rows)
            ended["crashed" if crashed else "passed" if report.passed else "failed"] += 1
        except Exception as error:
            bench.say(f"{path.name}: {type(error).__name__}: {error}")
            ended["raised"] += 1
        path.write_bytes(kept)
        (folder / "manifest.json").write_bytes(manifest)
        bench.say(f"{number + 1}: {artifact.name}, {path.name}: {ended}")
    note = (f"{ended['failed']} fail a check, {ended['crashed']} crash their runtime, which is a failed row, "
            f"{ended['passed']} change nothing that the checks see")
    return [bench.rows.Row("damaged files handed to their runtime", [times], "", note=note),
            none_of("`verify` that ended without a report", ended["raised"])]


if __name__ == "__main__":
    sys.exit(main())
