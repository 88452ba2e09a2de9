"""Reading Hugging Face tokenizer files: what each folder holds, what its special tokens are, what is wrong with it.

Everything here returns the keyword arguments of `kzoo.tokenizers.Tokenizer`.
"""
import json
import pathlib

from kzoo import files
from kzoo import tokenizer_settings as declared
from kzoo.sentencepiece_conversion import parse, template

EXPECTED = ("tokenizer.json, vocab.json with merges.txt, vocab.txt, a SentencePiece model (tokenizer.model, "
            "spiece.model, *.model), or source.spm and target.spm with vocab.json")

# tokenizer_class without its ending -> (begin, end): which special tokens a SentencePiece tokenizer adds.
SENTENCEPIECE_TEMPLATES = {"T5": (False, True), "MT5": (False, True), "Pegasus": (False, True), "Llama": (True, False),
                           "Gemma": (True, False)}
# A vocabulary may hold a few pieces that no merge makes (RoBERTa's madeupword0000); more mean that merges are missing.
MADE_UP_WORDS = 8
ROBERTA_CLASSES = ("Roberta", "Longformer", "Bart", "LED")


def read(path):
    """The parts of a tokenizer in a folder or file. See `kzoo.tokenizers.load_tokenizer`."""
    path = pathlib.Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist. A tokenizer is a folder or file with {EXPECTED}.")
    if path.is_dir():
        return _read_folder(path)
    name = path.name
    if path.suffix == ".model":
        return _read_sentencepiece(path)
    if path.suffix == ".json" and "model" in _json(path):
        return _read_tokenizer_json(path)
    if name in ("vocab.json", "merges.txt"):
        return _read_byte_bpe(path.with_name("vocab.json"), path.with_name("merges.txt"))
    if path.suffix == ".txt":
        return _read_wordpiece(path)
    raise ValueError(f"{path} is not a tokenizer file. Expected {EXPECTED}.")


def _read_folder(folder):
    models = _sentencepiece_models(folder)
    if (folder / "tokenizer.json").exists():
        return _read_tokenizer_json(folder / "tokenizer.json", models[0] if len(models) == 1 else None)
    if (folder / "vocab.json").exists() or (folder / "merges.txt").exists():
        return _read_byte_bpe(folder / "vocab.json", folder / "merges.txt")
    if (folder / "vocab.txt").exists():
        return _read_wordpiece(folder / "vocab.txt")
    if len(models) == 1:
        return _read_sentencepiece(models[0])
    if models:
        raise ValueError(f"{folder} holds several SentencePiece models ({', '.join(model.name for model in models)}). "
                         "Pass the path of one.")
    raise FileNotFoundError(f"{folder} holds no tokenizer. Expected {EXPECTED}.")


def _sentencepiece_models(folder):
    usual = [folder / name for name in ("tokenizer.model", "spiece.model", "sentencepiece.bpe.model")]
    return [path for path in usual if path.exists()][:1] or sorted(folder.glob("*.model"))


# One reader for each kind of file.

def _read_tokenizer_json(path, model_path=None):
    import tokenizers
    parts = _json(path)
    if not isinstance(parts.get("model"), dict):
        raise ValueError(f"{path} is not a tokenizer.json: it has no `model`. A vocabulary alone is named vocab.json "
                         "and has merges.txt beside it.")
    kind = _kind(parts, path)
    fast = _library(tokenizers.Tokenizer.from_str, json.dumps(parts), path=path)
    _library(fast.encode, "a", path=path)  # some damage shows only here
    settings = declared.read(path.parent)
    special = {token.content for token in fast.get_added_tokens_decoder().values() if token.special}
    unknown = parts["model"].get("unk_token")
    vocabulary = fast.get_vocab(with_added_tokens=True)
    if kind == "byte-bpe" and not special and "<|endoftext|>" in vocabulary:
        special = {"<|endoftext|>"}
    roles = declared.roles(settings, vocabulary, special | {unknown} if unknown else special, path.parent)
    needed = kind == "wordpiece" or (kind in ("byte-bpe", "character") and unknown is not None)
    if needed and unknown not in parts["model"]["vocab"]:
        raise ValueError(f"{path} does not hold its unknown token {unknown!r}; a word that cannot be spelled would "
                         "have no id.")
    result = {"kind": kind, "fast": fast, "roles": roles, **declared.common(settings, kind)}
    if kind == "sentencepiece" and model_path is not None:
        return _prefer_sentencepiece(result, model_path, vocabulary)
    return result


def _prefer_sentencepiece(result, model_path, vocabulary):
    """Encode by the SentencePiece model, unless tokenizer.json numbers its pieces differently (XLM-R) or adds words."""
    fast = result["fast"]
    model = sentencepiece_bytes(model_path)
    pieces = _pieces(model)
    extra = sorted((index, token) for token, index in vocabulary.items() if index >= len(pieces))
    special = {token.content for token in fast.get_added_tokens_decoder().values() if token.special}
    special |= set(declared.read(model_path.parent).get("additional_special_tokens", ()))
    same = all(vocabulary.get(piece) == index for index, piece in enumerate(pieces))
    if not same or [index for index, _ in extra] != list(range(len(pieces), len(vocabulary))):
        return result
    if any(token not in special for _, token in extra):
        return result
    encoding = fast.encode("a")
    plain = [index for index, added in enumerate(encoding.special_tokens_mask) if not added] or [0]
    return {**result, "fast": None, "sentencepiece_model": model, "extra_pieces": [token for _, token in extra],
            "template": (encoding.ids[:plain[0]], encoding.ids[plain[-1] + 1:])}


def _kind(parts, path):
    model = parts["model"]
    layers = json.dumps([parts.get("pre_tokenizer"), parts.get("decoder"), parts.get("normalizer")])
    type_ = model.get("type") or ("BPE" if "merges" in model else "WordPiece" if "max_input_chars_per_word" in model
                                  else "Unigram" if "unk_id" in model else None)
    if type_ == "WordPiece":
        return "wordpiece"
    if type_ == "Unigram":
        return "sentencepiece"
    if type_ == "BPE" and '"ByteLevel"' in layers:
        return "byte-bpe"
    if type_ == "BPE" and (model.get("byte_fallback") or "\\u2581" in layers):
        return "sentencepiece"
    if type_ == "BPE" and not model.get("merges") and parts.get("pre_tokenizer") is None:
        return "character"
    raise ValueError(f"{path} holds a tokenizer of type {type_!r} that is none of: characters (BPE without merges), "
                     "byte-level BPE, WordPiece, SentencePiece (Unigram, or BPE with byte fallback).")


def _read_byte_bpe(vocabulary_path, merges_path):
    import tokenizers
    from tokenizers import decoders, pre_tokenizers, processors
    for path, other in ((vocabulary_path, merges_path), (merges_path, vocabulary_path)):
        if not path.exists():
            raise FileNotFoundError(f"{path} does not exist; {other.name} needs it beside it (byte-level BPE).")
    vocabulary = read_vocabulary(vocabulary_path)
    merges = _merges(merges_path, vocabulary, vocabulary_path)
    settings = declared.read(vocabulary_path.parent)
    prefix = bool(settings.get("add_prefix_space", False))
    fast = tokenizers.Tokenizer(_library(tokenizers.models.BPE, vocabulary, merges, path=merges_path))
    fast.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix)
    fast.decoder = decoders.ByteLevel()
    declared.add_tokens(fast, settings, vocabulary_path.parent)
    # What no merge makes was put there by name, so `<s>` learnt from a web page is not taken for a special token.
    made = {left + right for left, right in merges}
    named = {token for token in fast.get_vocab() if token not in made}
    left_over = [token for token in vocabulary if token not in made and len(token) > 1 and token[0] not in "<["]
    if len(left_over) > MADE_UP_WORDS:
        raise ValueError(f"{merges_path} makes none of {len(left_over)} pieces in {vocabulary_path.name}, such as "
                         f"{min(left_over)!r}. It is cut short, or the two files belong to different tokenizers.")
    roles = declared.roles(settings, fast.get_vocab(), named, vocabulary_path.parent)
    tokenizer_class = declared.class_name(settings)
    known = {role: (token, fast.token_to_id(token)) for role, token in roles.items()}
    roberta = tokenizer_class.startswith(ROBERTA_CLASSES) if tokenizer_class else True
    if roberta and roles.get("bos") == "<s>" and roles.get("eos") == "</s>":
        roles = {"cls": "<s>", "sep": "</s>", **roles}
        if "mask" in roles:  # it takes the space before it, as the words that stand in its place do
            fast.add_special_tokens([tokenizers.AddedToken(roles["mask"], lstrip=True, normalized=False)])
        fast.post_processor = processors.RobertaProcessing(known["eos"], known["bos"], add_prefix_space=prefix)
    else:
        _add_template(fast, known, settings.get("add_bos_token"), settings.get("add_eos_token"))
    return {"kind": "byte-bpe", "fast": fast, "roles": roles, **declared.common(settings, "byte-bpe")}


def _read_wordpiece(path):
    settings = declared.read(path.parent)
    vocabulary = _lines(path)
    unknown = settings.get("unk_token") or "[UNK]"
    if unknown not in vocabulary:
        raise ValueError(f"{path} does not hold {unknown}. A WordPiece vocabulary has one token a line, this one among "
                         "them. Is it a file of another kind?")
    lowercase = settings.get("do_lower_case")
    if lowercase is None:  # BERT's uncased vocabularies have no upper case outside the special tokens
        lowercase = not any(token != token.lower() for token in vocabulary if not token.startswith("["))
    fast = wordpiece(vocabulary, unknown, lowercase, settings.get("strip_accents"),
                     settings.get("tokenize_chinese_chars", True))
    declared.add_tokens(fast, settings, path.parent)
    bracketed = {token for token in fast.get_vocab() if token.startswith("[")}
    roles = declared.roles(settings, fast.get_vocab(), bracketed, path.parent)
    if "cls" in roles and "sep" in roles:
        cls, sep = ((roles[role], fast.token_to_id(roles[role])) for role in ("cls", "sep"))
        bert_template(fast, cls, sep)
    return {"kind": "wordpiece", "fast": fast, "roles": roles, **declared.common(settings, "wordpiece")}


def wordpiece(vocabulary, unknown="[UNK]", lowercase=True, strip_accents=None, chinese=True):
    """BERT's normaliser, pre-tokenizer and decoder around a WordPiece vocabulary (dict or None, to be trained)."""
    import tokenizers
    from tokenizers import decoders, normalizers, pre_tokenizers
    fast = tokenizers.Tokenizer(tokenizers.models.WordPiece(vocabulary or {}, unk_token=unknown))
    fast.normalizer = normalizers.BertNormalizer(lowercase=lowercase, strip_accents=strip_accents,
                                                 handle_chinese_chars=chinese)
    fast.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    fast.decoder = decoders.WordPiece()
    return fast


def bert_template(fast, cls, sep):
    """[CLS] text [SEP], and [CLS] text [SEP] second [SEP]; (token, id) pairs."""
    from tokenizers.processors import TemplateProcessing
    fast.post_processor = TemplateProcessing(
        single=f"{cls[0]} $A {sep[0]}", pair=f"{cls[0]} $A {sep[0]} $B:1 {sep[0]}:1", special_tokens=[cls, sep])


def _read_sentencepiece(path):
    model = sentencepiece_bytes(path)
    pieces = _pieces(model)
    settings = declared.read(path.parent)
    import sentencepiece
    processor = sentencepiece.SentencePieceProcessor(model_proto=model)
    ids = {"bos": processor.bos_id(), "eos": processor.eos_id(), "unk": processor.unk_id(), "pad": processor.pad_id()}
    roles = {role: pieces[index] for role, index in ids.items() if index >= 0}
    tokenizer_class = declared.class_name(settings).removesuffix("Fast").removesuffix("Tokenizer")
    extra = []
    if tokenizer_class in ("T5", "MT5"):
        count = settings.get("extra_ids", 100)
        extra = [name for name in (f"<extra_id_{index}>" for index in reversed(range(count))) if name not in pieces]
    roles.update(declared.roles(settings, {*pieces, *extra}, (), path.parent))
    # A bare file declares no template. T5's layout is known by pad 0, eos 1, unk 2 and no bos.
    is_t5 = (ids["pad"], ids["eos"], ids["unk"], ids["bos"]) == (0, 1, 2, -1)
    begin, end = SENTENCEPIECE_TEMPLATES.get(tokenizer_class, (False, is_t5 and not tokenizer_class))
    begin, end = settings.get("add_bos_token", begin), settings.get("add_eos_token", end)
    around = ([ids["bos"]] if begin and ids["bos"] >= 0 else [], [ids["eos"]] if end and ids["eos"] >= 0 else [])
    return {"kind": "sentencepiece", "sentencepiece_model": model, "extra_pieces": extra, "template": around,
            "roles": roles, **declared.common(settings, "sentencepiece")}


# What lies in the files.

def _bytes(path):
    data = path.read_bytes()
    if not data:
        raise ValueError(f"{path} is empty.")
    return data


def _text(path):
    try:
        return _bytes(path).decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text ({error}). The file is damaged or of another kind.") from error


def _json(path):
    _bytes(path)
    return files.read_json(path)


def read_vocabulary(path):
    """dict token -> id of a JSON file. Raises ValueError for anything else in it, or an id that is there twice."""
    vocabulary = _json(path)
    for token, index in vocabulary.items():
        if type(index) is not int or index < 0:
            raise ValueError(f"{path} must map tokens to ids. Received: {token!r}: {index!r}.")
    if len(set(vocabulary.values())) != len(vocabulary):
        seen = {}
        for token, index in vocabulary.items():
            if index in seen:
                raise ValueError(f"{path} gives the id {index} to both {seen[index]!r} and {token!r}.")
            seen[index] = token
    if not vocabulary:
        raise ValueError(f"{path} holds no tokens.")
    return vocabulary


def _merges(path, vocabulary, vocabulary_path):
    merges = []
    for number, line in enumerate(_text(path).split("\n"), 1):
        line = line.removesuffix("\r")
        if not line or (number == 1 and line.startswith("#version")):
            continue
        pair = tuple(line.split(" "))
        if len(pair) != 2 or not all(pair):
            raise ValueError(f"{path}, line {number}: a merge is two pieces with a space between. "
                             f"Received: {line[:80]!r}.")
        for piece in (*pair, "".join(pair)):
            if piece not in vocabulary:
                raise ValueError(f"{path}, line {number}: the merge {line!r} needs the piece {piece!r}, which "
                                 f"{vocabulary_path.name} does not hold. The two files belong to different tokenizers.")
        merges.append(pair)
    return merges


def _lines(path):
    """token -> id of a file with one token a line."""
    lines = _text(path).split("\n")
    while lines and not lines[-1].strip():
        lines.pop()
    vocabulary = {}
    for number, line in enumerate(lines, 1):
        token = line.removesuffix("\r")
        if not token or " " in token or "\t" in token or token.startswith('{"'):
            raise ValueError(f"{path}, line {number}: a WordPiece vocabulary has one token a line, without spaces. "
                             f"Received: {token[:80]!r}. Is it a file of another kind?")
        if token in vocabulary:
            raise ValueError(f"{path}, line {number}: {token!r} is there twice (first in line "
                             f"{vocabulary[token] + 1}), so ids would be ambiguous.")
        vocabulary[token] = number - 1
    return vocabulary


def sentencepiece_bytes(path):
    """A SentencePiece model's file, tried out. Raises ValueError if it is none, or damaged."""
    import sentencepiece
    model = _bytes(path)
    try:
        processor = sentencepiece.SentencePieceProcessor()
        loaded = processor.LoadFromSerializedProto(model) and processor.get_piece_size() > 0
        [processor.id_to_piece(index) for index in range(processor.get_piece_size())]  # each is UTF-8
        proto = parse(model)
        loaded = loaded and proto.HasField("trainer_spec") and proto.HasField("normalizer_spec")  # or it is cut short
    except Exception as error:
        raise ValueError(f"{path} is not a SentencePiece model, or it is damaged ({_first_line(error)}).") from error
    if not loaded:
        raise ValueError(f"{path} is not a SentencePiece model, or it is damaged.")
    return model


def _pieces(model):
    import sentencepiece
    processor = sentencepiece.SentencePieceProcessor(model_proto=model)
    return [processor.id_to_piece(index) for index in range(processor.get_piece_size())]


def _add_template(fast, known, begin, end):
    before = [known["bos"]] if begin and "bos" in known else []
    after = [known["eos"]] if end and "eos" in known else []
    if before or after:
        fast.post_processor = template(before, after)


def _library(call, *arguments, path):
    """Call into `tokenizers`, whose errors are of many types (a panic is not even an Exception)."""
    try:
        return call(*arguments)
    except BaseException as error:
        if isinstance(error, (KeyboardInterrupt, SystemExit, MemoryError)):
            raise
        raise ValueError(f"{path} cannot be read as a tokenizer ({_first_line(error)}). It is damaged, or was made for "
                         "another version.") from error


def _first_line(error):
    return (str(error).strip().split("\n") or [""])[0][:200]
