"""The parser: every command and option, with the closest match for what does not exist."""
import argparse

import kzoo
from kzoo.errors import closest, unknown


class UsageError(ValueError):
    """The command line itself is wrong."""


class Parser(argparse.ArgumentParser):
    """An ArgumentParser whose errors are sentences, raised instead of printed."""

    def __init__(self, **options):
        options.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        super().__init__(allow_abbrev=False, **options)

    def error(self, message):
        ending = "" if message.endswith((".", "?")) else "."
        raise UsageError(f"{message}{ending}\nSee `{self.prog} --help`.")

    def _check_value(self, action, value):
        # argparse lists the choices and leaves the reader to find the slip.
        if action.choices is not None and value not in action.choices:
            kind = "command" if isinstance(action, argparse._SubParsersAction) else _name(action)
            raise argparse.ArgumentError(None, unknown(kind, value, action.choices))


def build_parser():
    """The whole command line. Importing the command files imports no backend."""
    from kzoo.cli import bench, demo, evaluate, explain, export, lengthen, run, show, train

    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--debug", action="store_true", help="show the traceback of an error")
    parser = Parser(prog="kzoo", description=kzoo.__doc__, parents=[common],
                    epilog="`kzoo COMMAND --help` shows the options of a command.")
    parser.add_argument("--version", action="version", version=f"kzoo {kzoo.__version__}")
    commands = parser.add_subparsers(dest="command_name", metavar="COMMAND", required=True, parser_class=Parser)

    def add(name, command, summary, **options):
        added = commands.add_parser(name, help=summary, description=summary[0].upper() + summary[1:] + ".",
                                    parents=[common], **options)
        added.set_defaults(command=command)
        return added

    for group in (show, train, lengthen, evaluate, run, explain, export, bench, demo):
        group.add_commands(add)
    return parser


def parse(parser, argv):
    """`parse_args`, with the closest match for an option that the command does not have.

    Options are looked at first: argparse would rather complain of what is missing than of what is misspelt.
    """
    commands = next(action for action in parser._actions if isinstance(action, argparse._SubParsersAction)).choices
    chosen = commands.get(next((word for word in argv if not word.startswith("-")), None), parser)
    for word in argv[:argv.index("--")] if "--" in argv else argv:
        name = word.split("=")[0]
        if name.startswith("--") and " " not in name and name not in chosen._option_string_actions:
            chosen.error(closest("option", name, [each for each in chosen._option_string_actions if each[:2] == "--"]))
    args, rest = parser.parse_known_args(argv)
    if rest:
        chosen.error(f"Unexpected argument {rest[0]!r}")
    return args


def _name(action):
    return action.option_strings[-1] if action.option_strings else action.metavar or action.dest
