"""A SentencePiece model as a `tokenizers.Tokenizer` with the same ids, so that Hugging Face clients can load it."""

UNIGRAM, BPE, WORD, CHARACTER = 1, 2, 3, 4  # trainer_spec.model_type
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6  # pieces[i].type
SPACE = "▁"
START, END = r"(?<![\s\S])", r"(?![\s\S])"  # of the whole text: ^ and $ are ends of a line in some clients


def parse(model):
    """The model's protocol buffer. Raises ValueError if the bytes are not one."""
    from sentencepiece import sentencepiece_model_pb2
    proto = sentencepiece_model_pb2.ModelProto()
    try:
        proto.ParseFromString(model)
    except Exception as error:  # google.protobuf's DecodeError; its Python and C++ versions differ in their base
        raise ValueError(f"This is not a SentencePiece model ({error}).") from error
    return proto


def convert(model, extra_pieces=(), before=(), after=()):
    """The same tokenizer in the `tokenizers` library.

    Args:
        model: bytes of a SentencePiece model: unigram, BPE or character.
        extra_pieces: special tokens that follow its pieces.
        before, after: ids that `add_special_tokens=True` puts around a text.

    Returns: a `tokenizers.Tokenizer`. Special tokens are pieces of its vocabulary, not added tokens.
    Raises: ValueError for a model that has no such form (type "word", whitespace as a suffix).
    """
    import tokenizers
    proto = parse(model)
    trainer = proto.trainer_spec
    if trainer.model_type not in (UNIGRAM, BPE, CHARACTER) or trainer.treat_whitespace_as_suffix:
        raise ValueError("A SentencePiece model of type 'word', or one with whitespace as a suffix, cannot be "
                         "written as tokenizer.json. Train a unigram or BPE model.")
    pieces = [(piece.piece, piece.score) for piece in proto.pieces] + [(piece, 0.0) for piece in extra_pieces]
    if trainer.model_type == UNIGRAM:
        core = tokenizers.models.Unigram(pieces, trainer.unk_id, trainer.byte_fallback)
    else:
        ids = {piece: index for index, (piece, _) in enumerate(pieces)}
        merges = _merges(proto) if trainer.model_type == BPE else []
        core = tokenizers.models.BPE(ids, merges, unk_token=pieces[trainer.unk_id][0], fuse_unk=True,
                                     byte_fallback=trainer.byte_fallback)
    fast = tokenizers.Tokenizer(core)
    fast.normalizer = _normalizer(proto.normalizer_spec)
    splits = _splits(proto, extra_pieces)
    if splits:
        fast.pre_tokenizer = tokenizers.pre_tokenizers.Sequence(splits) if len(splits) > 1 else splits[0]
    fast.decoder = _decoder(proto)
    if before or after:
        fast.post_processor = template([(pieces[index][0], index) for index in before],
                                       [(pieces[index][0], index) for index in after])
    # What is matched before the model sees the text, as in SentencePiece itself.
    user_defined = [piece.piece for piece in proto.pieces if piece.type == USER_DEFINED]
    if user_defined:
        fast.add_tokens([tokenizers.AddedToken(piece, normalized=False) for piece in user_defined])
    return fast


def template(before, after):
    """A post-processor that puts special tokens around a text, given as (token, id) pairs."""
    from tokenizers.processors import TemplateProcessing
    start, end = [token for token, _ in before], [token for token, _ in after]
    return TemplateProcessing(single=[*start, "$A", *end], pair=[*start, "$A", *end, "$B:1", *(f"{t}:1" for t in end)],
                              special_tokens=list(dict.fromkeys([*before, *after])))


def _normalizer(spec):
    from tokenizers import Regex, normalizers
    space = SPACE if spec.escape_whitespaces else " "
    steps = []
    if spec.precompiled_charsmap:
        steps.append(normalizers.Precompiled(spec.precompiled_charsmap))
    if spec.remove_extra_whitespaces:
        steps += [normalizers.Replace(Regex(f"{START} +"), ""), normalizers.Replace(Regex(" {2,}"), " ")]
    if spec.add_dummy_prefix:
        steps.append(normalizers.Prepend(" "))
    if spec.escape_whitespaces:
        steps.append(normalizers.Replace(" ", SPACE))
    if spec.remove_extra_whitespaces:
        steps.append(normalizers.Replace(Regex(f"{space}+{END}"), ""))
    elif spec.add_dummy_prefix:
        # transformers.js gives an empty text the prefix, too; this takes it back.
        steps.append(normalizers.Replace(Regex(f"{START}{space}{END}"), ""))
    return normalizers.Sequence(steps)


def _splits(proto, extra_pieces):
    """Where a text may be cut without changing its segmentation: what makes the model see no special token.

    SentencePiece never finds a control, byte or unknown piece in a text. The Unigram model of `tokenizers` knows no
    types and would take `</s>` for the piece. Cutting the text inside every such name hides it; a cut is exact at a
    place that no ordinary piece can span.
    """
    from tokenizers import Regex
    from tokenizers.pre_tokenizers import Metaspace, Split
    normal = [piece.piece for piece in proto.pieces if piece.type in (NORMAL, USER_DEFINED)]
    splits = []
    if proto.normalizer_spec.escape_whitespaces and not any(SPACE in piece[1:] for piece in normal):
        splits.append(Metaspace(prepend_scheme="never"))  # words are independent: shorter texts for the model
    if proto.trainer_spec.model_type == UNIGRAM:
        hidden = [piece.piece for piece in proto.pieces if piece.type in (UNKNOWN, CONTROL, UNUSED, BYTE)]
        names = [name for name in [*hidden, *extra_pieces] if len(name) > 1]
        cuts = {}  # text before the cut -> texts after it
        for name in names:
            place = _cut(name, normal)
            cuts.setdefault(name[:place], []).append(name[place:])
        for start, ends in cuts.items():
            pattern = f"{_escape(start)}(?={'|'.join(map(_escape, ends))})"
            splits.append(Split(Regex(pattern), "merged_with_previous"))
    return splits


def _cut(name, normal):
    """The first place inside `name` that no ordinary piece spans, or 1 where each is spanned."""
    single = {piece for piece in normal if len(piece) == 1}
    for place in range(1, len(name)):
        left, right = name[:place], name[place:]
        if left[-1] not in single and right[0] not in single:
            continue  # two unknown characters become one unknown token
        if not any(_spans(piece, left, right) for piece in normal):
            return place
    return 1


def _spans(piece, left, right):
    for place in range(1, len(piece)):
        head, tail = piece[:place], piece[place:]
        if (left.endswith(head) or head.endswith(left)) and (right.startswith(tail) or tail.startswith(right)):
            return True
    return False


def _escape(text):
    # re.escape escapes more than JavaScript's regular expressions allow.
    return "".join("\\" + character if character in r"\^$.*+?()[]{}|/" else character for character in text)


def _decoder(proto):
    from tokenizers import decoders
    steps = [decoders.Replace(SPACE, " ")]
    if proto.trainer_spec.byte_fallback:
        steps.append(decoders.ByteFallback())
    steps.append(decoders.Fuse())
    if proto.normalizer_spec.add_dummy_prefix:
        steps.append(decoders.Strip(" ", 1000 if proto.normalizer_spec.remove_extra_whitespaces else 1, 0))
    return decoders.Sequence(steps)


def _merges(proto):
    """Pairs of pieces in the order SentencePiece joins them: by the score of what they make, then as listed."""
    scores = {piece.piece: piece.score for piece in proto.pieces if piece.type in (NORMAL, USER_DEFINED)}
    ranked = sorted(scores, key=scores.get, reverse=True)  # stable
    return [(piece[:place], piece[place:]) for piece in ranked for place in range(1, len(piece))
            if piece[:place] in scores and piece[place:] in scores]
