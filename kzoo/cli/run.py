"""`kzoo run`: text in, the model's answer out, from a run or from any runtime of a bundle."""
import pathlib
import sys

from kzoo.cli.answers import print_answers
from kzoo.cli.options import ABSENT, add_folder, add_json, add_runtime, given, is_bundle, number, whole_number
from kzoo.cli.output import print_json

# Names, limits and defaults are those of kzoo.tasks.options.GenerationOptions.
GENERATION = {
    "max-new-tokens": ({"type": whole_number(1), "metavar": "N"}, "stop after this many new tokens"),
    "min-new-tokens": ({"type": whole_number(0), "metavar": "N"}, "do not end before this many new tokens"),
    "do-sample": ({"action": "store_true"}, "draw tokens instead of taking the likeliest"),
    "num-beams": ({"type": whole_number(1), "metavar": "N"}, "beams of a beam search"),
    "temperature": ({"type": number(), "metavar": "X"}, "divide the logits by this before drawing"),
    "top-k": ({"type": whole_number(0), "metavar": "N"}, "draw among the N likeliest tokens, 0 for all; of fill-mask, "
                                                         "how many tokens to show"),
    "top-p": ({"type": number(), "metavar": "X"}, "draw among the fewest tokens with this much probability"),
    "repetition-penalty": ({"type": number(), "metavar": "X"}, "above 1: less likely to say a token again"),
    "no-repeat-ngram-size": ({"type": whole_number(0), "metavar": "N"}, "say no run of N tokens twice, those of a "
                                                                        "continued text included; 0: no limit"),
    "length-penalty": ({"type": number(), "metavar": "X"}, "above 0: beams prefer longer answers"),
    "early-stopping": ({"action": "store_true"}, "end beams once as many answers are finished as there are beams"),
    "seed": ({"type": whole_number(0), "metavar": "N"}, "seed of the draws"),
}
GENERATING = ("text-generation", "translation", "summarization")
# Task -> options that are not about generation.
OTHERS = {"translation": ("truncate",), "summarization": ("truncate",), "fill-mask": ("top_k", "truncate"),
          "text-classification": ("truncate",), "feature-extraction": ("truncate",)}


def add_commands(add):
    parser = add("run", run, "give texts to a run or a bundle and print its answers")
    add_folder(parser, "path", "RUN_OR_BUNDLE", "a run, a checkpoint folder or a bundle")
    parser.add_argument("texts", nargs="+", metavar="TEXT", help="what to answer; - reads lines from standard input")
    parser.add_argument("--context", metavar="FILE|TEXT", help="of question-answering: where the answers stand")
    parser.add_argument("--truncate", action="store_true", default=ABSENT,
                        help="cut texts that are longer than the model instead of refusing them")
    add_runtime(parser)
    for name, (kind, meaning) in GENERATION.items():
        parser.add_argument(f"--{name}", default=ABSENT, help=meaning, **kind)
    parser.add_argument("--stop", action="append", default=ABSENT, metavar="TEXT",
                        help="end an answer at this text; may be repeated")
    add_json(parser)


def run(args):
    from kzoo.tasks.options import GenerationOptions

    texts = [text for word in args.texts for text in (sys.stdin.read().splitlines() if word == "-" else [word])]
    if not texts:
        raise ValueError("Standard input holds no text to answer.")
    options = given(args, [name.replace("-", "_") for name in (*GENERATION, "stop", "truncate")])
    if "stop" in options:
        options["stop"] = tuple(options["stop"])
    if "truncate" not in options and options.keys() != {"top_k"}:  # those two may be meant for another task
        GenerationOptions(**options)  # refuses what does not fit before seconds are spent on opening the model
    context = None if args.context is None else read_context(args.context)
    model = open_model(args.path, **given(args, ["runtime", "variant"]))
    answers = answer(model, texts, options, context)
    if args.json:
        print_json([{"text": text, "answer": each} for text, each in zip(texts, answers, strict=True)])
    else:
        print_answers(texts, answers)


def read_context(words):
    """The text of the file that `words` names, or `words` where there is no such file."""
    try:
        path = pathlib.Path(words)
        if not path.is_file():
            return words
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise ValueError(f"{words} is not UTF-8 text.") from None
    except (OSError, ValueError):  # too long for a name, or with characters that no name has
        return words


def open_model(path, **choice):
    """A session of a bundle, or the live model of a run or checkpoint."""
    if is_bundle(path):
        from kzoo.export import open_bundle

        return open_bundle(path, **choice)
    if choice.get("runtime", "keras") != "keras" or "variant" in choice:
        raise ValueError(f"{path} is no bundle, so it has no runtimes or variants to choose from. "
                         "Export it first: kzoo export RUN BUNDLE.")
    import kzoo
    from kzoo.cli.start import start_backend

    start_backend()
    return kzoo.load(path)


def answer(model, texts, options, context=None):
    """One answer a text, from a session or a live model; options that its task does not have are refused."""
    from kzoo.tasks.options import GenerationOptions

    task = getattr(model, "task", "text-generation")
    known = (*GenerationOptions.field_names(), *OTHERS.get(task, ())) if task in GENERATING else OTHERS.get(task, ())
    for name in options:
        if name not in known:
            raise ValueError(f"--{name.replace('_', '-')} means nothing to a model of the task {task!r}.")
    if (context is not None) != (task == "question-answering"):
        raise ValueError("A model that answers questions needs --context, the text that holds the answers." if
                         context is None else f"--context is for models that answer questions; this one's task is "
                                              f"{task!r}.")
    if task == "text-generation":
        return model.generate(texts, **options)
    inputs = texts if context is None else [{"question": text, "context": context} for text in texts]
    return list(model(inputs, **options))
