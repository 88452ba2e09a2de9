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
SWITCH = {"gradient_checkpointing": True}
TEXT = ("One text, a classifier whose first token is global, windows of 257, random weights, float32, TensorFlow's "
        "graph without XLA; a step is forwards, backwards and Adam. Each is a process of its own whose private memory "
        "the kernel limits to {limit:.0f} GiB in the first two cases; both train with `gradient_checkpointing`. Memory "
        "is the most that a process held, the libraries included, and the time is that of its second pass. Full "
        "attention is BERT of the same sizes.")


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
    windows = {**fields, "window_size": 257}
    cases = {  # title -> arguments of `measure`
        f"Longformer, training step of {train:,} tokens": (
            "longformer-tiny", {**windows, **SWITCH}, train, "train", LIMIT),
        f"full attention, training step of {train:,} tokens": (
            "bert-tiny", {**fields, **SWITCH}, train, "train", LIMIT),
        f"Longformer without checkpointing, {train:,} tokens": ("longformer-tiny", windows, train, "train", 0),
        f"Longformer, forward pass of {forward:,} tokens": ("longformer-tiny", windows, forward, "forward", 0)}
    found = {title: [measure(*what) for _ in range(args.rounds)] for title, what in cases.items()}
    table = []
    for number, (title, answers) in enumerate(found.items()):
        problem = next((each["problem"] for each in answers if "problem" in each), "")
        table.append(bench.rows.Row(f"{title}: memory", [] if problem else [each["peak"] / GIB for each in answers],
                                    "GiB", None if number else f"<= {LIMIT // GIB}", problem))
        if not problem:
            table.append(bench.rows.Row(f"{title}: time", [each["seconds"] for each in answers], "s"))
    return bench.finish(args, "longformer_memory", TITLE, TEXT.format(limit=LIMIT / GIB), table,
                        bench.own_versions("keras", "tensorflow"), started)


if __name__ == "__main__":
    sys.exit(main())
