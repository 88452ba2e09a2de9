"""Training the four kinds of tokenizers from a stream of text; the libraries do the learning."""
import collections
import io
import json
import re

from kzoo.errors import unknown
from kzoo.tokenizer_files import bert_template, wordpiece

DEFAULT_SIZE = 8000
END_OF_TEXT = "<|endoftext|>"
BERT_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
WORDPIECE_CHARACTERS = 1000  # rarer ones become [UNK], as in BERT
SENTENCEPIECE_LINES = 1_000_000  # SentencePiece keeps its sample in memory; more lines change the pieces little
SENTENCEPIECE_LINE_BYTES = 4096  # longer ones would be skipped without a word


def train(kind, texts, vocabulary_size=None):
    """Keyword arguments of `kzoo.tokenizers.Tokenizer`. See `kzoo.tokenizers.train_tokenizer`."""
    trainers = {"character": _train_character, "byte-bpe": _train_byte_bpe, "wordpiece": _train_wordpiece,
                "sentencepiece": _train_sentencepiece}
    if kind not in trainers:
        raise ValueError(unknown("tokenizer kind", kind, trainers))
    if vocabulary_size is not None and (type(vocabulary_size) is not int or vocabulary_size < 1):
        raise ValueError(f"`vocabulary_size` must be a positive int or None. Received: {vocabulary_size!r}.")
    if isinstance(texts, (str, bytes)) or not hasattr(texts, "__iter__"):
        raise TypeError("`texts` must be an iterable of str, for example an open file or a list of lines. "
                        f"Received: {type(texts).__name__}.")
    stream = _Stream(texts)
    result = trainers[kind](stream, vocabulary_size)
    return {"kind": kind, "recognises_special_tokens": kind == "wordpiece", **result}


class _Stream:
    """Gives the texts on, checks each, and keeps the error that a library would swallow or rename."""

    def __init__(self, texts):
        self.texts = texts
        self.error = None
        self.found = False

    def __iter__(self):
        try:
            for index, text in enumerate(self.texts):
                if not isinstance(text, str):
                    raise TypeError(f"`texts` must hold str. Received at index {index}: {text!r} "
                                    f"({type(text).__name__}).")
                try:
                    text.encode("utf-8")
                except UnicodeEncodeError as error:
                    raise ValueError(f"The text at index {index} of `texts` holds half of a surrogate pair at "
                                     f"{error.start}, which is no character.") from None
                if text:
                    self.found = True
                    yield text
        except BaseException as error:
            self.error = error
            raise

    def run(self, call, *arguments, **options):
        try:
            call(*arguments, **options)
        except BaseException as error:
            if self.error is not None:
                raise self.error from None
            if self.found or isinstance(error, (KeyboardInterrupt, SystemExit)):
                raise
        self.require_text()

    def require_text(self):
        if not self.found:
            raise ValueError("`texts` holds no text; a tokenizer needs some to learn from.")


def _train_character(stream, vocabulary_size):
    import tokenizers
    counts = collections.Counter()
    for text in stream:
        counts.update(text)
    stream.require_text()
    kept = sorted(counts)
    if vocabulary_size is not None and len(kept) + 1 > vocabulary_size:
        if vocabulary_size < 2:
            raise ValueError("`vocabulary_size` must be at least 2: <unk> and a character. "
                             f"Received: {vocabulary_size}.")
        common = sorted(counts, key=lambda character: (-counts[character], character))
        kept = sorted(common[:vocabulary_size - 1])
    vocabulary = {token: index for index, token in enumerate(["<unk>", *kept])}
    # BPE without merges: a character is a token. Five times faster than splitting into words of one character.
    fast = tokenizers.Tokenizer(tokenizers.models.BPE(vocabulary, [], unk_token="<unk>", fuse_unk=False))
    fast.decoder = tokenizers.decoders.Fuse()
    return {"fast": fast, "roles": {"unk": "<unk>"}}


def _train_byte_bpe(stream, vocabulary_size):
    import tokenizers
    vocabulary_size = DEFAULT_SIZE if vocabulary_size is None else vocabulary_size
    if vocabulary_size < 257:
        raise ValueError(f"`vocabulary_size` must be at least 257 for byte-level BPE: 256 bytes and {END_OF_TEXT}. "
                         f"Received: {vocabulary_size}.")
    trained = tokenizers.ByteLevelBPETokenizer()
    stream.run(trained.train_from_iterator, stream, vocabulary_size, show_progress=False, special_tokens=[END_OF_TEXT])
    # The end of text stays in the vocabulary, but is not looked for in text.
    fast = tokenizers.Tokenizer.from_str(json.dumps({**json.loads(trained.to_str()), "added_tokens": []}))
    return {"fast": fast, "roles": {"bos": END_OF_TEXT, "eos": END_OF_TEXT, "unk": END_OF_TEXT}}


def _train_wordpiece(stream, vocabulary_size):
    import tokenizers
    size = DEFAULT_SIZE if vocabulary_size is None else vocabulary_size
    fast = wordpiece(None)
    words = collections.Counter()
    for text in stream:
        words.update(word for word, _ in fast.pre_tokenizer.pre_tokenize_str(fast.normalizer.normalize_str(text)))
    if not words:
        stream.found = False
        stream.require_text()
    alphabet, inside = _alphabet(words)
    least = len(BERT_TOKENS) + len(alphabet) + len(inside)
    if size < least:
        raise ValueError(f"`vocabulary_size` must be at least {least} for WordPiece on this text: its characters (at "
                         f"the start of words and inside) and {len(BERT_TOKENS)} special tokens. Received: {size}.")
    # The library numbers the characters inside words in the order of a hash table, another one in each process, and
    # breaks ties by these numbers. As "special tokens" they are numbered here, and training becomes reproducible.
    trainer = tokenizers.trainers.WordPieceTrainer(
        vocab_size=size, min_frequency=2, special_tokens=[*BERT_TOKENS, *alphabet, *inside], initial_alphabet=alphabet,
        limit_alphabet=len(alphabet), show_progress=False)
    stream.run(fast.train_from_iterator, _repeated(words), trainer)
    fast = wordpiece(fast.get_vocab())
    cls, sep = ((token, fast.token_to_id(token)) for token in ("[CLS]", "[SEP]"))
    bert_template(fast, cls, sep)
    return {"fast": fast, "roles": dict(zip(("pad", "unk", "cls", "sep", "mask"), BERT_TOKENS, strict=True))}


def _alphabet(words):
    """The most frequent characters of counted words, and those of them that occur inside a word, as pieces."""
    counts = collections.Counter()
    for word, count in words.items():
        for character in word:
            counts[character] += count
    kept = sorted(sorted(counts, key=lambda character: (-counts[character], character))[:WORDPIECE_CHARACTERS])
    inside = {character for word in words for character in word[1:]}
    return kept, [f"##{character}" for character in kept if character in inside]


def _repeated(words):
    """Texts in which each word occurs as often as it was counted."""
    for word, count in words.items():
        for start in range(0, count, 10_000):
            yield " ".join([word] * min(10_000, count - start))


def _train_sentencepiece(stream, vocabulary_size):
    import sentencepiece
    size = DEFAULT_SIZE if vocabulary_size is None else vocabulary_size
    model = io.BytesIO()
    options = {
        # BPE: transformers.js and onnxruntime-genai know byte fallback for it, and not for a unigram model.
        "model_type": "bpe", "vocab_size": size, "pad_id": 0, "eos_id": 1, "unk_id": 2, "bos_id": -1,
        # Every text comes back exactly: bytes stand for rare characters, spaces and line ends stay as they are.
        "byte_fallback": True, "normalization_rule_name": "identity", "remove_extra_whitespaces": False,
        "allow_whitespace_only_pieces": True,
        "hard_vocab_limit": vocabulary_size is not None,
        "input_sentence_size": SENTENCEPIECE_LINES, "max_sentence_length": SENTENCEPIECE_LINE_BYTES,
        "minloglevel": 2,
    }
    sentencepiece.set_random_generator_seed(1)  # of the sample of lines, when there are more
    try:
        stream.run(sentencepiece.SentencePieceTrainer.train, sentence_iterator=_lines(stream), model_writer=model,
                   **options)
    except RuntimeError as error:
        raise ValueError(_size_error(str(error), size)) from error
    return {"sentencepiece_model": model.getvalue(),
            "roles": {"pad": "<pad>", "eos": "</s>", "unk": "<unk>"}}


def _lines(texts):
    """Lines without their ends, in pieces that SentencePiece does not skip."""
    length = SENTENCEPIECE_LINE_BYTES // 4  # a character has at most 4 bytes
    for text in texts:
        for line in text.splitlines():
            for start in range(0, len(line), length):
                yield line[start:start + length]


def _size_error(message, size):
    largest = re.search(r"value <= (\d+)", message)
    if largest:
        return f"`vocabulary_size` {size} is more than this text can fill. The largest is {largest[1]}."
    smallest = re.search(r"required_chars\. (\d+) vs (\d+)", message)
    if smallest:
        return (f"`vocabulary_size` must be at least {smallest[2]} for SentencePiece on this text: its characters, 256 "
                f"bytes and 3 special tokens. Received: {size}.")
    return f"SentencePiece could not learn from this text ({message.strip()[-200:]})."
