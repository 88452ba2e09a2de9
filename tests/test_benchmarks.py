"""The benchmarks without their timing: scripts import, options parse, contenders take turns, results read well."""
import ast
import importlib
import json
import pathlib
import re
import sys
import types

import pytest

HERE = pathlib.Path(__file__).resolve().parents[1] / "benchmarks"
MODULES = ("bench", "rows", "machine", "run", "recipe", "word_tokenizer")
SCRIPTS = ("startup", "fit_throughput", "fit_encoders", "training_step", "allocator", "beam_translation",
           "decode_gpt2_small", "translate_base", "read_texts_bert", "longformer_speed", "reformer_speed",
           "duplication", "transformer_xl_evaluation", "long_attention", "longformer_memory", "long_quality",
           "export_gpt2_small", "faults", "shakespeare", "imdb_keras_io", "sst2", "ag_news", "scan", "g2p", "multi30k",
           "multi30k_fairseq", "gpu_jax")
CONTENDER = """
import sys
from serving import answer
answer({"versions": {"here": {"thing": "1.2"}}})
print("a library prints")
for number, _ in enumerate(sys.stdin):
    if number == int(sys.argv[2]):
        sys.exit("thing broke")
    with open(sys.argv[1], "a") as file:
        file.write(sys.argv[3])
    answer({"speed": 7.0 * (number + 1)})
"""


@pytest.fixture(scope="module")
def modules():
    """Name -> module of benchmarks/, which is no package: its scripts import each other from their own folder."""
    before = set(sys.modules)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(HERE))
        found = {name: importlib.import_module(name) for name in (*MODULES, *SCRIPTS)}
    yield types.SimpleNamespace(**found)
    for name in {*MODULES, *SCRIPTS} - before:
        del sys.modules[name]


@pytest.fixture
def result(modules):
    rows = [modules.rows.Row("ours", [2.0, 3.0, 7.0], "tokens/s"), modules.rows.Row("it", [1.0], "s", "<= 0.5", "why")]
    return {"name": "startup", "title": "A title", "text": "How.", "rows": rows, "command": "python benchmarks/x.py",
            "date": "2026-01-02", "versions": {"peers": {"torch": "2.13.0"}},
            "machine": {"processor": "A processor", "cores": 2, "memory_gib": 23, "busy": 1}}


@pytest.fixture
def contenders(modules, tmp_path):
    """(name, fails in round) -> Contender, of a program that counts."""
    program = tmp_path / "counts.py"
    program.write_text(f"import sys; sys.path.insert(0, {str(HERE / 'contenders')!r}){CONTENDER}")

    def make(name, fails=99, **options):
        return modules.bench.Contender(name, sys.executable, program, tmp_path / "order", fails, name, **options)
    return make


def test_every_script_is_known(modules):
    programs = {path.stem for path in HERE.glob("*.py") if "TITLE = " in path.read_text(encoding="utf-8")}
    assert programs == set(SCRIPTS) == set(modules.run.SCRIPTS)


def test_every_program_that_is_started_is_there():
    started = {name for script in SCRIPTS
               for name in re.findall(r'"(\w+\.py)"', (HERE / f"{script}.py").read_text(encoding="utf-8"))}
    there = {path.name: path.read_text(encoding="utf-8") for path in (HERE / "contenders").glob("*.py")}
    helpers = {f"{name}.py" for text in there.values() for name in re.findall(r"^(?:from|import) (\w+)", text, re.M)}
    assert started <= set(there) <= started | helpers
    for text in there.values():
        ast.parse(text)


@pytest.mark.parametrize("script", SCRIPTS)
def test_every_script_explains_its_options(modules, script, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [f"{script}.py", "--help"])
    with pytest.raises(SystemExit) as ended:
        getattr(modules, script).main()
    assert ended.value.code == 0
    text = capsys.readouterr().out
    known = {option for options in modules.run.SCRIPTS.values() for option in options}
    assert {option for option in known if f"--{option.replace('_', '-')} " in text} == set(modules.run.SCRIPTS[script])


def test_peers_are_pinned():
    for name in ("requirements-peers.txt", "requirements-keras-hub.txt"):
        lines = [line for line in (HERE / name).read_text().splitlines() if line and not line.startswith("#")]
        assert lines and all(re.fullmatch(r"[\w.-]+==[\d.]+", line) for line in lines), name


def test_the_run_passes_on_what_a_script_takes(modules, tmp_path):
    args = modules.run.parse(["--peers", "p", "--keras-hub", "k", "--data", "d", "--toy"])
    assert modules.run.command("fit_throughput", args)[2:] == ["--peers", "p", "--keras-hub", "k", "--toy"]
    assert modules.run.command("shakespeare", args)[2:] == ["--data", "d/tinyshakespeare/input.txt", "--toy"]
    assert modules.run.command("imdb_keras_io", args)[2:] == ["--data", "d/imdb", "--toy"]
    assert modules.run.command("startup", args)[2:] == ["--toy"]
    (tmp_path / "input.txt").write_text("to be")  # a file serves the one script that reads it
    args = modules.run.parse(["--data", str(tmp_path / "input.txt")])
    assert modules.run.command("shakespeare", args)[2:] == ["--data", str(tmp_path / "input.txt")]


def test_data_that_is_missing_is_named(modules, tmp_path):
    (tmp_path / "train.tsv").write_text("x")
    args = types.SimpleNamespace(data=tmp_path)
    assert modules.bench.need_data(args, "train.tsv") == tmp_path.resolve()
    with pytest.raises(SystemExit, match=r"dev.tsv is no file. Give the folder with train.tsv, dev.tsv with --data"):
        modules.bench.need_data(args, "train.tsv", "dev.tsv")
    with pytest.raises(SystemExit, match="Give tiny Shakespeare"):
        modules.bench.need_data(types.SimpleNamespace(data=None))


def test_the_run_can_be_cut_and_resumed(modules, monkeypatch):
    monkeypatch.setattr(modules.run, "stored", lambda: {"startup": {}})
    assert not {"gpu_jax", "multi30k"} & set(modules.run.chosen(modules.run.parse([])))
    assert modules.run.chosen(modules.run.parse(["--only", "gpu_jax", "startup"])) == ["gpu_jax", "startup"]
    assert modules.run.chosen(modules.run.parse(["--only", "gpu_jax", "startup", "--missing"])) == ["gpu_jax"]
    with pytest.raises(SystemExit):
        modules.run.parse(["--only", "startups"])


def test_every_data_set_has_its_place(modules):
    assert set(modules.run.DATA) == {name for name, takes in modules.run.SCRIPTS.items() if "data" in takes}
    for name, place in modules.run.DATA.items():
        assert getattr(getattr(modules, name), "DATA", "tinyshakespeare/input.txt") == place


def test_contenders_take_turns(modules, contenders, tmp_path, monkeypatch):
    monkeypatch.setattr(modules.bench, "PAUSE", 0)
    first, second = contenders("A"), contenders("B")
    modules.bench.interleave([first, second], 3)
    assert (tmp_path / "order").read_text() == "ABABAB"
    assert first.values("speed") == [7.0, 14.0, 21.0]
    assert modules.bench.versions_of([first, second]) == {"here": {"thing": "1.2"}}


def test_a_peer_that_fails_is_noted_and_our_own_is_an_error(modules, contenders, monkeypatch):
    monkeypatch.setattr(modules.bench, "PAUSE", 0)
    peer, ours = contenders("P", fails=1, optional=True), contenders("A")
    modules.bench.interleave([peer, ours], 2)
    row = peer.row("speed", "tokens/s")
    assert (row.values, row.note) == ((), "failed: thing broke")
    assert len(ours.answers) == 2
    assert modules.rows.ratio("A / P", ours.row("speed", ""), row, ">= 1.0").met is None
    with pytest.raises(RuntimeError, match="A ended with status 1:\nthing broke"):
        modules.bench.interleave([contenders("A", fails=1)], 2)


def test_a_peer_without_an_interpreter_is_left_out(modules):
    peer = modules.bench.Contender("P", None, "fit_torch.py")
    modules.bench.interleave([peer], 1)
    assert "no interpreter" in peer.row("speed", "").note


def test_ratios_are_taken_round_by_round(modules):
    ours, theirs = modules.rows.Row("A", [6.0, 4.0, 9.0]), modules.rows.Row("B", [2.0, 1.0, 9.0])
    row = modules.rows.ratio("A / B", ours, theirs, ">= 3.0")
    assert row.values == (3.0, 4.0, 1.0)
    assert (row.median, row.met) == (3.0, True)
    assert modules.rows.ratio("A / B", ours, theirs, ">= 3.1").met is False


@pytest.mark.parametrize("bar, met", [("<= 3", True), ("<= 2.9", False), (">= 3", True), (">= 3.1", False)])
def test_bars_hold_the_median(modules, bar, met):
    assert modules.rows.Row("a", [2.0, 3.0, 7.0], bar=bar).met is met


@pytest.mark.parametrize("bar", ["3", "< 3", "<= 3 s"])
def test_a_bar_that_cannot_be_read_is_refused(modules, bar):
    with pytest.raises(ValueError, match="`bar` must read like"):
        modules.rows.Row("a", [2.0], bar=bar)


def test_numbers_read_well(modules):
    assert [modules.rows.number(value) for value in (21345.6, 498.32, 1.91234, 0.13)] == \
        ["21,346", "498.3", "1.912", "0.13"]


def test_results_survive_the_disk_and_read_as_a_table(modules, result, tmp_path):
    modules.rows.write(tmp_path / "deep" / "startup.json", result)
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["startup.json"]
    text = modules.rows.section(json.loads((tmp_path / "deep" / "startup.json").read_text()))
    assert "| ours | 3 tokens/s | 3: 2 to 7 |  |  |" in text
    assert "| it | 1 s | 1 | <= 0.5 | **missed**; why |" in text
    assert "A processor, 2 cores, 23 GiB; taken by others before and after: 1 %." in text
    assert "peers: torch 2.13.0." in text
    assert "kept the machine busy" not in text


def test_a_busy_machine_is_told(modules, result):
    result["rows"], result["machine"]["busy"] = [], 11
    assert "kept the machine busy" in modules.rows.section(result)


def test_what_is_not_measured_is_named_with_its_command(modules, result):
    result["rows"] = []
    text = modules.run.render({"startup": result})
    assert "KERAS_BACKEND=jax python benchmarks/run.py --only gpu_jax --data FOLDER" in text
    assert "it takes hours on two cores. To measure it" in text
    assert "--only startup" not in text


def test_the_results_are_those_that_are_stored(modules):
    assert (HERE / "RESULTS.md").read_text(encoding="utf-8") == modules.run.render(modules.run.stored()), \
        "run `python benchmarks/run.py --render`"


def test_commands_show_no_paths_of_the_machine(modules, monkeypatch):
    monkeypatch.delenv("KERAS_BACKEND", raising=False)
    words = ["/a/x.py", "--peers", "/p/python", "--out=/o.json", "--data=/d.txt", "--rounds", "5", "--out", "/o",
             "--toy"]
    assert modules.bench.command_line(words) == \
        "python benchmarks/x.py --peers PYTHON --data PATH --rounds 5 --toy"


def test_the_peak_is_that_of_the_whole_family(modules):
    program = ("import subprocess, sys; subprocess.run([sys.executable, '-c', "
               "'import time; held = bytearray(90_000_000); time.sleep(0.5)'])")
    if not pathlib.Path("/proc/self").exists():
        pytest.skip("this system has no /proc to read memory from")
    process = modules.bench.subprocess.Popen([sys.executable, "-c", program])
    with modules.machine.PeakMemory(process.pid) as peak:
        process.wait()
    assert peak.bytes > 90_000_000
