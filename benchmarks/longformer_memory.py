"""How much memory a Longformer takes for long texts, beside full attention of the same size."""
import json
import shlex
import subprocess
import sys

import bench

TITLE = "Long texts in limited memory: a Longformer of 4 layers and width 256"
FIELDS = {"num_layers": 4, "num_heads": 4, "hidden_dim": 256, "intermediate_dim": 1024}
TOY_FIELDS = {"num_layers": 1, "num_heads": 1, "hidden_dim": 8, "intermediate_dim": 8}
TRAIN, FORWARD = 16384, 65536
GIB = 1 << 30
LIMIT = 4 * GIB  # bytes
LIMITS = {"train": LIMIT, "forward": 0}
TEXT = ("One text, a classifier whose first token is global, windows of 257, random weights, float32, TensorFlow's "
        "graph without XLA; a step is forwards, backwards and Adam. Each is a process of its own whose private memory "
        "the kernel limits to {limit:.0f} GiB (the forward pass has no limit); memory is the most that it held, the "
        "libraries included, and the time is that of its second pass. Full attention is BERT of the same sizes.")


def measure(preset, fields, length, work, limit):
    """What the program says, or dict of `problem`, the end of what it complained of."""
    command = [sys.executable, str(bench.HERE / "contenders" / "read_once.py"), preset, json.dumps(fields),
               str(length), work]
    bench.say(f"{preset}, {length:,} tokens, {work}")

    import resource  # not on every system

    def hold():  # what asks for more gets nothing, and the program ends
        if limit:
            resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))

    done = subprocess.run(command, env=bench.environment(), capture_output=True, text=True, check=False,
                          preexec_fn=hold)
    answers = [line[len(bench.MARK):] for line in done.stdout.splitlines() if line.startswith(bench.MARK)]
    if done.returncode or not answers:
        lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        if limit == 0 or not any(word in done.stderr for word in ("OOM", "bad_alloc", "MemoryError", "allocat")):
            sys.exit(f"{shlex.join(command)} ended with status {done.returncode}:\n" + "\n".join(lines[-20:]))
        return {"problem": f"ends for want of memory, status {done.returncode}"}
    return json.loads(answers[-1])


def main():
    args = bench.options(TITLE, rounds=3).parse_args()
    started = bench.machine.describe()
    fields, train, forward = (TOY_FIELDS, 64, 128) if args.toy else (FIELDS, TRAIN, FORWARD)
    cases = {("Longformer", "train"): ("longformer-tiny", {**fields, "window_size": 257}, train),
             ("full attention", "train"): ("bert-tiny", fields, train),
             ("Longformer", "forward"): ("longformer-tiny", {**fields, "window_size": 257}, forward)}
    found = {case: [measure(*what, case[1], LIMITS[case[1]]) for _ in range(args.rounds)]
             for case, what in cases.items()}
    table = []
    for (name, work), answers in found.items():
        title = f"{name}, {cases[name, work][2]:,} tokens, {'training step' if work == 'train' else 'forward pass'}"
        problem = next((each["problem"] for each in answers if "problem" in each), "")
        ours = name == "Longformer" and work == "train"
        table.append(bench.rows.Row(f"{title}: memory", [] if problem else [each["peak"] / GIB for each in answers],
                                    "GiB", f"<= {LIMIT // GIB}" if ours else None, problem))
        if not problem:
            table.append(bench.rows.Row(f"{title}: time", [each["seconds"] for each in answers], "s"))
    return bench.finish(args, "longformer_memory", TITLE, TEXT.format(limit=LIMIT / GIB), table,
                        bench.own_versions("keras", "tensorflow"), started)


if __name__ == "__main__":
    sys.exit(main())
