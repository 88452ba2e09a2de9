"""Training speed of the shapes that people fine-tune and translate with: BERT-base and Transformer-base, in turns."""
import json
import sys

import bench

TITLE = "Training BERT-base and Transformer-base: tokens a second"
# Kind of model -> its sizes, and those of one measurement. Lengths are tokens of a row; of a pair, those of each side.
SIZES = {
    "encoder": {"layers": 12, "heads": 12, "width": 768, "block": 128, "batch": 8, "vocabulary": 30522, "steps": 6},
    "encoder-decoder": {"layers": 6, "heads": 8, "width": 512, "block": 32, "batch": 16, "vocabulary": 32000,
                        "steps": 8}}
TOY = {"layers": 1, "heads": 2, "width": 8, "block": 16, "batch": 3, "vocabulary": 53, "steps": 5}
NAMES = {"encoder": "BERT-base classifier", "encoder-decoder": "Transformer-base"}
HUB = {"encoder": "KerasHub BERT", "encoder-decoder": "KerasHub BART of the same sizes"}
BAR = ">= 1.0"
TEXT = ("BERT-base with a classifier: batch 8, length 128. Transformer-base: batch 16, 32 tokens on each side, "
        "vocabulary 32,000. Random token ids without padding, float32, dropout {dropout:g}, AdamW, {threads} threads. "
        "A run is {steps} steps of `model.fit` (in PyTorch: of the same loop), compiled and warm, of each contender in "
        "turn. PyTorch runs the models of the transformers library under `torch.compile`; KerasHub has no Transformer "
        "of 2017, so its BART stands in, with learned positions. Ratios are taken round by round.")


def main():
    parser = bench.options(TITLE, rounds=5, peers=True, keras_hub=True)
    parser.add_argument("--only", choices=SIZES, nargs="+", default=list(SIZES), metavar="KIND",
                        help=f"some of: {', '.join(SIZES)}")
    parser.add_argument("--dropout", type=float, default=0.0, metavar="X", help="of every contender; default 0")
    args = parser.parse_args()
    started, table, everyone = bench.machine.describe(), [], []
    for kind in args.only:
        words = json.dumps({**(TOY if args.toy else SIZES[kind]), "dropout": args.dropout})
        peer = {"threads": args.threads, "optional": True}
        ours = bench.Contender(f"{NAMES[kind]}: kzoo", sys.executable, "fit_encoder_kzoo.py", kind, words,
                               threads=args.threads)
        hub = bench.Contender(f"{NAMES[kind]}: {HUB[kind]}", args.keras_hub, "fit_encoder_keras_hub.py", kind, words,
                              **peer)
        compiled = bench.Contender(f"{NAMES[kind]}: torch.compile", args.peers, "fit_encoder_torch.py", kind, words,
                                   args.threads, **peer)
        contenders = [ours, hub, compiled]
        bench.interleave(contenders, args.rounds)
        measured = {each: each.row("tokens_per_second", "tokens/s", _parameters(each)) for each in contenders}
        table += [*measured.values(),
                  *(bench.rows.ratio(f"{ours.name} / {theirs.name.partition(': ')[2]}", measured[ours],
                                     measured[theirs], BAR) for theirs in (hub, compiled))]
        everyone += contenders
    text = TEXT.format(threads=args.threads, dropout=args.dropout,
                       steps=" and ".join(str(SIZES[kind]["steps"]) for kind in args.only))
    return bench.finish(args, "fit_encoders", TITLE, text, table, bench.versions_of(everyone), started)


def _parameters(contender):
    count = contender.ready.get("parameters")
    return f"{count / 1e6:.1f} M parameters" if count else ""


if __name__ == "__main__":
    sys.exit(main())
