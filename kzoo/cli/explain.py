"""`kzoo explain`: what a model's answer to a text came from."""
from kzoo.cli.bench import check_page
from kzoo.cli.options import ABSENT, add_folder, add_json, given, is_bundle, whole_number
from kzoo.cli.output import print_json, print_table


def add_commands(add):
    parser = add("explain", explain, "show what a model's answer to a text came from")
    add_folder(parser, "path", "RUN", "a run or a checkpoint folder")
    parser.add_argument("text", metavar="TEXT", help="what the model reads")
    parser.add_argument("--question", metavar="TEXT", help="of question-answering: what is asked of TEXT")
    parser.add_argument("--html", metavar="FILE", help="write a page to point at tokens on; it needs no network")
    parser.add_argument("--answer", default=ABSENT, metavar="WORD",
                        help="the token or label to explain; without it the likeliest")
    parser.add_argument("--position", type=whole_number(0), default=ABSENT, metavar="N",
                        help="of token-classification: which token's label, counted from 0; of translation and "
                             "summarization: which token of the answer")
    add_json(parser)


def explain(args):
    page = None if args.html is None else check_page(args.html)
    if is_bundle(args.path):
        raise ValueError(f"{args.path} is a bundle, whose files show answers alone; explain the run that it came from.")
    import kzoo
    from kzoo.cli.start import start_backend

    start_backend()
    text = args.text if args.question is None else {"question": args.question, "context": args.text}
    found = kzoo.explain(kzoo.load(args.path), text, **given(args, ["answer", "position"]))
    if page is not None:
        found.save_html(page)
    if args.json:
        print_json({"question": found.question, "answer": found.answer, "score": found.score, "gap": found.gap,
                    "tokens": [{"token": token, "attribution": round(float(value), 6)}
                               for token, value in zip(found.tokens, found.attribution, strict=True)]})
        return
    print(f"{found.question}: {found.answer!r} (log-probability {found.score:.3f})")
    row = found.rollout[found.position if found.position is not None else 0]
    print_table(["token", "attribution>", "rollout>"],
                [(repr(token), f"{value:+.3f}", f"{share:.3f}")
                 for token, value, share in zip(found.tokens, found.attribution, row, strict=True)])
    if page is not None:
        print(f"Written: {page}")
