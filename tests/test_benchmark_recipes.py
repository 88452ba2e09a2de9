"""The benchmarks that train: each runs to its end with `--toy` on data of a few rows, in this process."""
import contextlib
import gzip
import importlib
import io
import json
import lzma
import math
import pathlib
import random
import runpy
import sys
import types

import pytest

from kzoo.cli import main
from kzoo.cli.parser import build_parser

HERE = pathlib.Path(__file__).resolve().parents[1] / "benchmarks"
NAMES = ("bench", "rows", "machine", "recipe", "word_tokenizer", "imdb_keras_io", "sst2", "ag_news", "scan", "g2p",
         "multi30k", "multi30k_fairseq", "fit_encoders", "beam_translation", "shakespeare", "long_quality")
WORDS = "a good and fine film with one bad scene that nobody likes but the end is great fun".split()
draw = random.Random(1)


@pytest.fixture(scope="module")
def modules():
    before = set(sys.modules)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(HERE))
        found = {name: importlib.import_module(name) for name in NAMES}
    yield types.SimpleNamespace(**found)
    for name in set(NAMES) - before:
        del sys.modules[name]


@pytest.fixture
def toy(modules, monkeypatch, tmp_path, capsys):
    """toy(script, data, ...) runs a script; its processes are calls of the command line here."""
    def run(words):
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            assert main(words) == 0
        return out.getvalue()

    monkeypatch.setattr(modules.recipe, "run_kzoo", run)
    monkeypatch.setattr(modules.bench, "WORK", tmp_path / "work")
    monkeypatch.setattr(modules.machine, "busy", lambda: 0)

    def call(name, data, *options):
        monkeypatch.setattr(sys, "argv", [f"{name}.py", "--data", str(data), "--toy", *options])
        assert getattr(modules, name).main() == 0
        result = json.loads((tmp_path / "work" / "toy" / f"{name}.json").read_text())
        return result, float(capsys.readouterr().out.splitlines()[-1])
    return call


def sentence(length=7):
    return " ".join(draw.choice(WORDS) for _ in range(length))


def packed(path, text, opener=gzip.open):
    path.parent.mkdir(parents=True, exist_ok=True)
    with opener(path, "wt", encoding="utf-8") as file:
        file.write(text)


def test_imdb(toy, tmp_path):
    for name in ("train.tsv.xz", "test.tsv.xz"):
        packed(tmp_path / name, "".join(f"{label}\t{number}\t5\t{sentence(30)}<br />\n" for label in (0, 1)
                                        for number in range(8)), lzma.open)
    result, accuracy = toy("imdb_keras_io", tmp_path, "--seeds", "3")
    assert 0 <= accuracy <= 1 and result["rows"][0]["values"][0] <= 1


def test_imdb_numbers_words_as_the_data_set_of_keras_does(modules):
    imdb = modules.imdb_keras_io
    assert imdb.words("It's GREAT...<br /><br />really-good!") == ["it's", "great", "br", "br", "really", "good"]
    numbers = imdb.number_words(["b a b", "c a b d"], 6)
    assert numbers == {"b": 4, "a": 5}  # 0 pads, 1 starts, 2 is unknown
    assert imdb.encode(["b c", "a b a b"], numbers, 4).tolist() == [[0, 1, 4, 2], [5, 4, 5, 4]]


def test_sst2(toy, tmp_path):
    for name in ("train", "dev", "test"):
        (tmp_path / f"{name}.tsv").write_text("".join(f"{sentence()}\t{number % 2}\n" for number in range(24)))
    result, accuracy = toy("sst2", tmp_path, "--seeds", "0")
    assert 0 <= accuracy <= 1 and result["rows"][-1]["note"] == "24 sentences"


def test_ag_news(toy, tmp_path):
    rows = "".join(f'{1 + number % 4},"{sentence()}","{sentence()}, too"\n' for number in range(40))
    packed(tmp_path / "train.sample20k.csv.gz", f"class_index,title,description\n{rows}")
    packed(tmp_path / "test.csv.gz", rows)
    assert 0 <= toy("ag_news", tmp_path)[1] <= 1


def test_scan(toy, modules, tmp_path):
    lines = "".join(f"IN: jump {side} twice OUT: I_TURN_{side.upper()} I_JUMP I_JUMP\n" for side in ("left", "right"))
    for name in modules.scan.FILES:
        packed(tmp_path / name, lines * 15)
    assert modules.scan.pairs(tmp_path / name, 1) == [("jump left twice", "I_TURN_LEFT I_JUMP I_JUMP")]
    assert 0 <= toy("scan", tmp_path)[1] <= 100


def test_grapheme_to_phoneme(toy, tmp_path):
    for split in ("train", "dev", "test"):
        (tmp_path / split).mkdir()
        (tmp_path / split / f"fre_{split}.tsv").write_text("abbé\ta b e\nbéa\tb e a\n" * 8)
    result, errors = toy("g2p", tmp_path)
    assert 0 <= errors <= 100 and result["text"].startswith("fre: 3,600 words")


def test_long_quality(toy, modules, tmp_path):
    packed(tmp_path / modules.long_quality.FILE, "".join(f"{sentence()}\n" for _ in range(60)))
    result, bits = toy("long_quality", tmp_path)
    assert bits > 0 and [row["name"].split(":")[0] for row in result["rows"][::4]] == [
        "full", "window of 128", "LSH (Reformer)", "memory (Transformer-XL)"]


def test_multi30k(toy, tmp_path):
    for split in ("train", "valid", "test.2016"):
        for language in ("en", "de"):
            packed(tmp_path / f"{split}.{language}.gz", "".join(f"{sentence()}@@ s .\n" for _ in range(20)))
    result, bleu = toy("multi30k", tmp_path, "--seeds", "1", "4")
    assert 0 <= bleu <= 100
    assert result["rows"][0]["name"].startswith("validation loss after 2 updates")
    seeds, mean = (row["values"] for row in result["rows"][-2:])
    assert len(seeds) == 2 and mean == [pytest.approx(sum(seeds) / 2)]
    assert [len(row["values"]) for row in result["rows"] if "early stopping" in row["name"]] == [2, 2]
    kept = tmp_path / "work" / "toy" / "multi30k"
    assert sorted(path.name for path in kept.iterdir()) == ["seed-1.json", "seed-4.json"]
    record = json.loads((kept / "seed-4.json").read_text())
    assert record["results"]["test"]["tokenized_bleu"] == seeds[1] and record["about"]["fields"]["num_layers"] == 1
    assert f"seed 4 on {record['date']}, {record['machine']['processor']}." in result["text"]


def test_multi30ks_curve_has_only_those_that_are_still_training(modules):
    long, short = ([{"step": step, "valid_loss": 1 / step + shift} for step in range(1, count + 1)]
                   for count, shift in ((20, 0), (5, 1)))
    rows = modules.multi30k.curve([long, short])
    assert [row.name.split()[3] for row in rows] == [str(step) for step in range(2, 21, 2)]
    assert [len(row.values) for row in rows] == [2, 2] + [1] * 8 and rows[0].values == (1 / 2, 3 / 2)


FAIRSEQ = {
    "preprocess": "pathlib.Path(option('--destdir')).mkdir()",
    "train": """
for epoch, loss in enumerate([9, 5, 7, *range(20, 40)], start=1):
    print(f"| epoch {epoch:03d} | valid on 'valid' subset | loss {loss}.5 | nll_loss {loss}.0 | ppl 1 | num_updates "
          f"{2 * epoch} | best_loss 5.5")
    print(f"| saved checkpoint checkpoint{epoch}.pt", flush=True)
while True:
    time.sleep(1)
""",
    "generate": "print(f'| Generate with beam=5: BLEU4 = 41.02, 71.0/47.5/34.3/24.5 (BP=0.999, ratio=0.999)')"}


@pytest.fixture
def fairseq(monkeypatch, tmp_path):
    """Programs with the names and the output of fairseq's, in the way of this interpreter's processes."""
    head = "import pathlib, sys, time\ndef option(name):\n    return sys.argv[sys.argv.index(name) + 1]\n"
    for name, text in {"fairseq_cli/__init__": "", "fairseq": "__version__ = '0.9.0'", "torch": "__version__ = '2'",
                       **{f"fairseq_cli/{name}": head + text for name, text in FAIRSEQ.items()}}.items():
        path = tmp_path / "fairseq" / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "fairseq"))


def test_multi30k_in_fairseq_ends_when_patience_says_so(toy, modules, fairseq, monkeypatch, tmp_path):
    for split in ("train", "valid", "test.2016"):
        for language in ("en", "de"):
            packed(tmp_path / f"{split}.{language}.gz", "a@@ b c\n" * 60)
    averaged = []
    monkeypatch.delenv("KERAS_BACKEND", raising=False)  # the command would tell it
    monkeypatch.setattr(modules.multi30k_fairseq, "average", lambda python, run, last: averaged.append(last) or run)
    monkeypatch.setitem(modules.multi30k_fairseq.TOY, "max-update", 4000)
    result, bleu = toy("multi30k_fairseq", tmp_path, "--fairseq", sys.executable)
    rows = {row["name"]: row["values"] for row in result["rows"]}
    assert averaged == [12] and rows["optimizer steps"] == [24]  # the best is the second of the twelve
    assert rows["validation loss after 4 updates"] == [pytest.approx(5 * math.log(2))]
    assert bleu == 41.02 and rows["test2016: brevity penalty"] == [0.999]
    assert len((tmp_path / "work/multi30k_fairseq-toy/text/train.en").read_text().splitlines()) == 40
    assert result["command"].startswith("python benchmarks/multi30k_fairseq.py --data PATH --toy --fairseq PYTHON")
    assert result["versions"] == {"fairseq's environment": {"fairseq": "0.9.0", "torch": "2"}}


def test_patience_counts_from_the_best_epoch(modules):
    ended_at = modules.multi30k_fairseq.ended_at
    falling = list(range(30, 0, -1))
    assert ended_at(falling) is None
    assert ended_at([*falling, *[1] * 9]) is None and ended_at([*falling, *[1] * 12]) == 40
    assert ended_at([*falling, *[1] * 9, 0.5, *[1] * 10]) == 50


def test_a_fairseq_that_stops_halfway_is_an_error(modules, fairseq, monkeypatch, tmp_path):
    (tmp_path / "fairseq" / "fairseq_cli" / "train.py").write_text("import sys; sys.exit('no memory')")
    with pytest.raises(SystemExit, match="status 1 before it was done; .*log.txt says why"):
        modules.multi30k_fairseq.train(sys.executable, tmp_path, tmp_path / "run", {"max-update": 4})
    assert "no memory" in (tmp_path / "run" / "log.txt").read_text()


def test_beam_translation(modules, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(modules.bench, "WORK", tmp_path)
    monkeypatch.setattr(modules.machine, "busy", lambda: 0)
    monkeypatch.setattr(modules.bench, "use_checkout", lambda: None)
    monkeypatch.setattr(sys, "argv", ["beam_translation.py", "--toy"])
    for name in ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS"):
        monkeypatch.setenv(name, "2")  # the script sets them
    assert modules.beam_translation.main() == 0
    rows = json.loads((tmp_path / "toy" / "beam_translation.json").read_text())["rows"]
    assert [len(row["values"]) for row in rows] == [1] * 4 and "batch 32 / batch 1" in capsys.readouterr().out


def test_options_are_those_of_the_command_line(modules, tmp_path):
    (tmp_path / "data").write_text("x")
    for name in ("sst2", "ag_news", "scan", "g2p", "multi30k", "shakespeare"):
        script = getattr(modules, name)
        words = modules.recipe.train_command("bert-tiny", "translation", tmp_path / "data", tmp_path / "run",
                                             {**script.OPTIONS, "resume": True}, script.FIELDS)
        args = build_parser().parse_args(words)
        assert args.resume and dict(args.overrides).keys() == script.FIELDS.keys()
        assert set(script.TOY) <= {*script.OPTIONS, "length-buckets"}, name


def test_a_long_run_is_not_thrown_away(modules, tmp_path, monkeypatch):
    monkeypatch.setattr(modules.bench, "WORK", tmp_path)
    (tmp_path / "long" / "run").mkdir(parents=True)
    args = types.SimpleNamespace(toy=False, resume=False)
    with pytest.raises(SystemExit, match="Go on with it"):
        modules.recipe.work("long", args)
    args.resume = True
    assert modules.recipe.work("long", args) == tmp_path / "long"
    args.toy, args.resume = True, False
    assert modules.recipe.work("long", args) == tmp_path / "long-toy" and (tmp_path / "long" / "run").is_dir()


def test_a_finished_run_is_not_trained_again(modules, tmp_path, monkeypatch):
    (tmp_path / "training.json").write_text(json.dumps({"state": "finished", "results": {"steps": 7}}))
    monkeypatch.setattr(modules.recipe, "run_kzoo", None)
    assert modules.recipe.train("gpt2-nano", "text-generation", "x", tmp_path, {}, {}, resume=True) == {"steps": 7}


def test_what_was_kept_is_measured_again_only_for_another_recipe(modules, tmp_path):
    path, calls = tmp_path / "kept" / "seed-0.json", []

    def measure():
        calls.append(1)
        return {"bleu": len(calls)}

    def keep(about, resume=True):
        record = modules.recipe.keep(path, about, measure, {"cores": 2}, resume)
        assert record == json.loads(path.read_text())
        return record["results"]["bleu"]
    assert keep({"betas": (0.9, 0.98)}) == keep({"betas": (0.9, 0.98)}) == 1
    assert keep({"betas": (0.9, 0.98)}, resume=False) == 2
    assert keep({"betas": (0.9, 0.99)}) == 3 and len(calls) == 3


def test_a_word_is_a_token(modules, tmp_path):
    import kzoo

    tokenizer = kzoo.load_tokenizer(modules.word_tokenizer.write(tmp_path, ["i@@ ch bin .", "i@@ hr ."]))
    assert (tokenizer.pad_id, tokenizer.eos_id, tokenizer.unk_id) == (0, 1, 2)
    text = "i@@ hr bin ch ."
    assert tokenizer.decode(tokenizer.encode(text)) == text and len(tokenizer.encode(text)) == 6
    assert tokenizer.encode("ihr")[0] == 2


@pytest.mark.parametrize("kind", ["encoder", "encoder-decoder"])
def test_our_contender_trains(modules, monkeypatch, capsys, kind):
    sizes = json.dumps({**modules.fit_encoders.TOY, "dropout": 0.1})
    monkeypatch.syspath_prepend(str(HERE / "contenders"))
    monkeypatch.setattr(sys, "argv", ["fit_encoder_kzoo.py", kind, sizes])
    monkeypatch.setattr(sys, "stdin", io.StringIO("go\n"))
    fitting = importlib.import_module("fitting")
    measure = fitting.keras_measure  # without XLA, which takes longer to compile this than to run it
    monkeypatch.setattr(fitting, "keras_measure", lambda *parts, jit: measure(*parts, jit=False))
    runpy.run_path(str(HERE / "contenders" / "fit_encoder_kzoo.py"))
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("@@ ")]
    assert json.loads(lines[1].removeprefix("@@ "))["tokens_per_second"] > 0
