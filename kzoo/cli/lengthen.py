"""`kzoo lengthen`: a checkpoint for long texts out of one for short texts."""
from kzoo.cli.options import add_folder
from kzoo.cli.output import counted, print_fields


def add_commands(add):
    parser = add("lengthen", lengthen, "make a Longformer of a RoBERTa, to be pretrained further on long texts")
    add_folder(parser, "checkpoint", "CHECKPOINT", "a run or checkpoint folder of a RoBERTa or BERT")
    parser.add_argument("out", metavar="OUT", help="the folder to make")
    parser.add_argument("--max-sequence-length", type=int, default=4096, metavar="N", help="longest input, in tokens")
    parser.add_argument("--window-size", type=int, default=257, metavar="N",
                        help="how far a token sees, itself included (default: 257, published as 512)")
    parser.add_argument("--format", choices=("kzoo", "hugging_face"), default="kzoo", help="of the folder")


def lengthen(args):
    from kzoo import saving
    from kzoo.cli.start import start_backend

    start_backend()
    from kzoo.lengthening import lengthen as lengthened

    model = lengthened(saving.load(args.checkpoint), args.max_sequence_length, args.window_size)
    saving.save(model, args.out, format=args.format)
    print_fields({"path": args.out, "family": model.family.name, "task": model.task,
                  "parameters": counted(model.count_params())})
