"""`kzoo demo`: the main job end to end, on text that every machine already has."""
from kzoo.cli.options import ABSENT, given


def add_commands(add):
    parser = add("demo", demo, "train a small GPT-2, export it everywhere, verify it and write a report")
    parser.add_argument("--out", default=ABSENT, metavar="DIR", help="folder to write (default: demo)")


def demo(args):
    from kzoo.cli.start import start_backend
    from kzoo.demo import demo as run_demo

    start_backend()
    run_demo(**given(args, ["out"]))
