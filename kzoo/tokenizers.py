"""Text to token ids and back: characters, byte-level BPE, WordPiece and SentencePiece behind one class.

The work is done by the `tokenizers` and `sentencepiece` libraries; neither is imported before it is needed, and
TensorFlow never is (`kzoo.tokenizers_in_graph` holds the twin that runs inside a graph).
"""
import functools
import hashlib
import json
import operator
import pathlib
from typing import NamedTuple

from kzoo import files

KINDS = ("character", "byte-bpe", "wordpiece", "sentencepiece")

FILES = ("tokenizer.json", "vocab.json", "merges.txt", "vocab.txt", "source.spm", "target.spm",
         "target_vocab.json")  # or a SentencePiece model, *.model
SETTINGS = ("special_tokens_map.json", "tokenizer_config.json", "added_tokens.json")

# What a token may stand for; each is also a `<role>_token` of tokenizer_config.json.
ROLES = ("bos", "eos", "unk", "pad", "cls", "sep", "mask")


def load_tokenizer(path):
    """A tokenizer from Hugging Face files.

    Args:
        path: a folder, or one of its files: tokenizer.json, vocab.json with merges.txt, vocab.txt (WordPiece), or a
            SentencePiece model (tokenizer.model, spiece.model, *.model); or a folder with OPUS-MT's source.spm,
            target.spm and vocab.json. A folder that holds both tokenizer.json and a SentencePiece model with the same
            pieces encodes by the SentencePiece model. tokenizer_config.json beside them says which special tokens
            exist and which are added; without it the conventions of GPT-2, RoBERTa, BERT and T5 apply, known by the
            tokens the vocabulary holds.

    Returns: a `Tokenizer`.
    Raises: OSError for a missing or unreadable file, ValueError for one that is damaged or of another kind.
    """
    from kzoo import marian_tokenizer, tokenizer_files
    if marian_tokenizer.lies_in(path):
        return marian_tokenizer.read(path)
    return Tokenizer(**tokenizer_files.read(path))


def find_tokenizer(folder):
    """Whether a folder holds a file that `load_tokenizer` would read; it may still be damaged."""
    return any(path.name in FILES or path.suffix == ".model" for path in tokenizer_files(folder))


def tokenizer_files(folder):
    """The files in a folder that `load_tokenizer` reads or looks for."""
    folder = pathlib.Path(folder)
    return [path for path in [*(folder / name for name in (*FILES, *SETTINGS)), *folder.glob("*.model")]
            if path.is_file()]


def train_tokenizer(kind, texts, vocabulary_size=None):
    """A tokenizer made from text.

    Args:
        kind: "character", "byte-bpe", "wordpiece" or "sentencepiece".
        texts: iterable of str, read once and never held in memory as a whole. Break long texts into lines or
            paragraphs: BPE and WordPiece learn within one str.
        vocabulary_size: number of ids, special tokens included. None: every character of the text ("character"), or
            up to 8,000. BPE and WordPiece stop earlier when no pair of pieces occurs twice; a SentencePiece
            vocabulary that the text cannot fill is an error that names the largest.

    Returns: a `Tokenizer`. Special tokens: `<unk>` (character); `<|endoftext|>`, never added by itself (byte-bpe);
        `[PAD] [UNK] [CLS] [SEP] [MASK]`, with [CLS] and [SEP] added (wordpiece); `<pad> </s> <unk>`, never added
        (sentencepiece). Byte-level BPE and SentencePiece give back every text exactly.
    Raises: ValueError for an unknown kind, no text, or a vocabulary size that is too small or too large; TypeError if
        `texts` is a single str or holds something else than str.
    """
    from kzoo import tokenizer_training
    return Tokenizer(**tokenizer_training.train(kind, texts, vocabulary_size))


class Encoding(NamedTuple):
    """Tokens with their places in the text; one entry a token.

    Attributes:
        ids: list of int.
        offsets: list of (start, end): its characters, from `start` to before `end`, without spaces around them.
        words: number of the word that the tokenizer took it from, or None for a special token in the text.
    """
    ids: list
    offsets: list
    words: list


class Tokenizer:
    """Encodes text into ids and decodes ids into text; made by `load_tokenizer` or `train_tokenizer`.

    Attributes:
        kind: one of `KINDS`, or "marian".
        vocabulary_size: the largest id plus one; a model's own `vocabulary_size` may be larger (padded), never smaller.
        bos_id, eos_id, unk_id, pad_id, cls_id, sep_id, mask_id: int, or None where there is no such token.
        recognises_special_tokens: whether a special token's name inside a text stands for the token. True for
            WordPiece, as BERT has it. False for the others, so that `<|endoftext|>` or `</s>` written by a user are
            plain characters; `encode(..., recognise_special_tokens=True)` is the way to mean the token.
    """

    def __init__(self, kind, fast=None, sentencepiece_model=None, extra_pieces=(), template=((), ()), roles=None,
                 recognises_special_tokens=False, settings=None):
        """Parts, as `kzoo.tokenizer_files` and `kzoo.tokenizer_training` give them.

        Args:
            kind: one of `KINDS`.
            fast: a `tokenizers.Tokenizer`; or None, and
            sentencepiece_model: the bytes of a SentencePiece model, which then encodes and decodes.
            extra_pieces: special tokens that follow the pieces of the SentencePiece model (T5's `<extra_id_0>`).
            template: ids added before and after a text, when a SentencePiece model encodes.
            roles: dict role -> token.
            settings: further entries of tokenizer_config.json to keep, such as model_max_length.
        """
        self.kind = kind
        self.recognises_special_tokens = recognises_special_tokens
        self.roles = dict(roles or {})
        self.settings = dict(settings or {})
        self.sentencepiece_model = sentencepiece_model
        self.extra_pieces = tuple(extra_pieces)
        self._sentencepiece_template = template
        self._processor = None
        self._given_fast = fast
        if sentencepiece_model is not None:
            import sentencepiece
            self._processor = sentencepiece.SentencePieceProcessor(model_proto=sentencepiece_model)

    @functools.cached_property
    def fast(self):
        """The `tokenizers.Tokenizer` that gives the same ids; made from the SentencePiece model when there is one."""
        fast = self._given_fast
        if self._processor is not None:
            from kzoo import sentencepiece_conversion
            fast = sentencepiece_conversion.convert(self.sentencepiece_model, self.extra_pieces,
                                                    *self._sentencepiece_template)
        # A file may carry truncation or padding from somebody's training; encoding must keep every token.
        fast.no_truncation()
        fast.no_padding()
        self._recognise(fast, self.recognises_special_tokens)
        return fast

    @property
    def targets(self):
        """The tokenizer of targets, where sources have one of their own, as OPUS-MT's have; else this one."""
        return self

    @functools.cached_property
    def _opposite(self):
        """`fast`, with the other answer to whether special tokens are recognised in text."""
        import tokenizers
        fast = tokenizers.Tokenizer.from_str(self.fast.to_str())
        self._recognise(fast, not self.recognises_special_tokens)
        return fast

    def _recognise(self, fast, recognise):
        import tokenizers
        if recognise:  # tokens that the file added itself keep their ways with the spaces around them
            there = {token.content for token in fast.get_added_tokens_decoder().values()}
            fast.add_special_tokens([tokenizers.AddedToken(token, normalized=False) for token in self.special_tokens
                                     if token not in there])
        fast.encode_special_tokens = not recognise

    @functools.cached_property
    def vocabulary(self):
        """dict token -> id, as the files spell the tokens."""
        if self._processor is None:
            return self._given_fast.get_vocab(with_added_tokens=True)
        pieces = [self._processor.id_to_piece(index) for index in range(self._processor.get_piece_size())]
        return {piece: index for index, piece in enumerate([*pieces, *self.extra_pieces])}

    @functools.cached_property
    def vocabulary_size(self):
        return max(self.vocabulary.values()) + 1

    @functools.cached_property
    def special_tokens(self):
        """dict token -> id of the special tokens; `decode` leaves them out unless told otherwise."""
        tokens = set(self.roles.values()) | set(self.extra_pieces)
        if self._processor is None:
            tokens |= {token.content for token in self._given_fast.get_added_tokens_decoder().values() if token.special}
        else:
            tokens |= {piece for piece, index in self.vocabulary.items() if index < self._processor.get_piece_size()
                       and (self._processor.is_control(index) or self._processor.is_unknown(index))}
        return {token: self.vocabulary[token] for token in sorted(tokens, key=self.vocabulary.get)}

    @functools.cached_property
    def template(self):
        """(ids before, ids after): what `add_special_tokens=True` puts around a text."""
        if self._processor is not None:
            return tuple(map(tuple, self._sentencepiece_template))
        encoding = self.fast.encode("a")
        plain = [index for index, added in enumerate(encoding.special_tokens_mask) if not added]
        first, last = (plain[0], plain[-1] + 1) if plain else (len(encoding.ids), len(encoding.ids))
        return tuple(encoding.ids[:first]), tuple(encoding.ids[last:])

    def ending_with(self, index):
        """A tokenizer like this one whose files close every text with the token of this id, as sources are closed.

        It is this one itself if it does so already, or has no such token.
        """
        from kzoo.sentencepiece_conversion import template

        before, after = self.template
        tokens = {known: token for token, known in self.vocabulary.items()}
        if index not in tokens or index in after[-1:]:
            return self
        after = (*after, index)
        rest = {"roles": self.roles, "recognises_special_tokens": self.recognises_special_tokens,
                "settings": self.settings}
        if self._processor is not None:
            return Tokenizer(self.kind, sentencepiece_model=self.sentencepiece_model, extra_pieces=self.extra_pieces,
                             template=(before, after), **rest)
        import tokenizers
        fast = tokenizers.Tokenizer.from_str(self.fast.to_str())
        fast.post_processor = template(*([(tokens[each], each) for each in ids] for ids in (before, after)))
        return Tokenizer(self.kind, fast, **rest)

    @functools.cached_property
    def pair_template(self):
        """(ids before, ids between, ids after): what stands around two texts, such as a question and its context."""
        encoding = self.fast.encode("a", "a")
        parts, previous = ([], [], []), None
        for index, part in zip(encoding.ids, encoding.sequence_ids, strict=True):
            if part is None:
                parts[0 if previous is None else previous + 1].append(index)
            previous = previous if part is None else part
        return tuple(tuple(part) for part in parts)

    @functools.cached_property
    def fingerprint(self):
        """sha256 (hex) of everything that determines the ids; a cache of encoded text is valid for one fingerprint."""
        core = self.sentencepiece_model or self.fast.to_str().encode("utf-8")
        rest = [self.kind, self.recognises_special_tokens, self.template, self.extra_pieces, self.special_tokens]
        return hashlib.sha256(core + b"\0" + json.dumps(rest).encode("utf-8")).hexdigest()

    def encode(self, text, add_special_tokens=True, recognise_special_tokens=None):
        """The ids of a text.

        Args:
            text: str.
            add_special_tokens: add what the files declare (BERT [CLS] and [SEP], T5 </s>, GPT-2 nothing).
            recognise_special_tokens: whether the name of a special token in `text` stands for that token. None:
                as `recognises_special_tokens` says. Pass True only for text you wrote yourself, not a user's.

        Returns: list of int.
        Raises: TypeError if `text` is not a str; ValueError if it holds half a surrogate pair, which no text file can.
        """
        return self._encode([_checked(text, "text")], add_special_tokens, recognise_special_tokens)[0]

    def encode_batch(self, texts, add_special_tokens=True, recognise_special_tokens=None):
        """`encode` for many texts at once, in parallel.

        Args:
            texts: iterable of str; to encode a large file, pass some thousands of lines at a time.

        Returns: list of lists of int. Raises: as `encode`.
        """
        if isinstance(texts, (str, bytes)):
            raise TypeError("`texts` must be a list of str; for a single text call `encode`. "
                            f"Received: {type(texts).__name__}.")
        texts = [_checked(text, f"texts[{index}]") for index, text in enumerate(texts)]
        return self._encode(texts, add_special_tokens, recognise_special_tokens)

    def encode_with_offsets(self, text, recognise_special_tokens=None):
        """The ids of a text, without special tokens around it, and where each comes from.

        Args:
            text, recognise_special_tokens: as for `encode`.

        Returns: an `Encoding`. Raises: as `encode`.
        """
        recognise = self.recognises_special_tokens if recognise_special_tokens is None else recognise_special_tokens
        fast = self.fast if recognise == self.recognises_special_tokens else self._opposite
        try:
            encoding = fast.encode(_checked(text, "text"), add_special_tokens=False)
        except Exception as error:
            if isinstance(text, str):
                _refuse_surrogates(text, error)
            raise
        return Encoding(encoding.ids, [_without_spaces(text, *place) for place in encoding.offsets], encoding.word_ids)

    def _encode(self, texts, add_special_tokens, recognise):
        recognise = self.recognises_special_tokens if recognise is None else recognise
        try:
            return self._rows(texts, add_special_tokens, recognise)
        except Exception as error:
            for text in texts:
                _refuse_surrogates(text, error)
            raise

    def _rows(self, texts, add_special_tokens, recognise):
        if self._processor is not None and not recognise:
            # The library starts a pool of threads for a list.
            rows = [self._processor.encode(texts[0])] if len(texts) == 1 else self._processor.encode(texts)
            before, after = self.template if add_special_tokens else ((), ())
            return [[*before, *row, *after] for row in rows]
        fast = self.fast if recognise == self.recognises_special_tokens else self._opposite
        # The "fast" call leaves out offsets: a fifth of the time on long texts.
        return [row.ids for row in fast.encode_batch_fast(texts, add_special_tokens=add_special_tokens)]

    def decode(self, ids, skip_special_tokens=True):
        """The text of ids.

        Args:
            ids: iterable of int (a list, a NumPy vector).
            skip_special_tokens: leave special tokens out, the unknown token included; False writes their names.

        Returns: str. Bytes that are not yet a whole character become U+FFFD.
        Raises: ValueError if an id is not below `vocabulary_size`, TypeError if it is no integer.
        """
        ids = self._checked_ids(ids)
        if skip_special_tokens:
            ids = [index for index in ids if index not in self._special_ids]
            if self._processor is not None:
                return self._processor.decode(ids)
        return self.fast.decode(ids, skip_special_tokens=False)

    @functools.cached_property
    def _special_ids(self):
        return frozenset(self.special_tokens.values())

    def _checked_ids(self, ids):
        if isinstance(ids, (str, bytes)) or not hasattr(ids, "__iter__"):
            raise TypeError(f"`ids` must be a list of token ids. Received: {ids!r} ({type(ids).__name__}).")
        try:
            ids = [operator.index(index) for index in ids]
        except TypeError as error:
            raise TypeError(f"`ids` must be a list of integers, one text at a time ({error}).") from None
        for index in ids:
            if not 0 <= index < self.vocabulary_size:
                raise ValueError(f"`ids` holds {index}, but this {self.kind} tokenizer has the ids 0 to "
                                 f"{self.vocabulary_size - 1}. Is it the tokenizer that the ids come from?")
        return ids

    def token_to_id(self, token):
        """The id of a token as the files spell it, or None."""
        return self.vocabulary.get(token)

    def id_to_token(self, index):
        """The token of an id as the files spell it, or None."""
        return self._tokens.get(index)

    @functools.cached_property
    def _tokens(self):
        return {index: token for token, index in self.vocabulary.items()}

    def save(self, folder):
        """Write tokenizer.json and tokenizer_config.json in the Hugging Face form, and tokenizer.model if there is one.

        `transformers.AutoTokenizer`, transformers.js and `load_tokenizer` give the same ids from the folder. Special
        tokens that are not to be recognised in text are named in tokenizer_config.json only: a client that reads
        tokenizer.json alone then treats a user's `</s>` as text, too.

        Args:
            folder: made when needed; files of these names are replaced, each atomically.

        Raises: ValueError for a SentencePiece model of a type that tokenizer.json cannot express; OSError.
        """
        folder = pathlib.Path(folder)
        text = self.fast.to_str(pretty=True)
        folder.mkdir(parents=True, exist_ok=True)
        if self.sentencepiece_model is not None:
            files.write_atomic(folder / "tokenizer.model", self.sentencepiece_model)
        files.write_json(folder / "tokenizer_config.json", self._config(json.loads(text)))
        files.write_atomic(folder / "tokenizer.json", text + "\n")

    def _config(self, parts):
        config = dict(self.settings)
        config["tokenizer_class"] = "PreTrainedTokenizerFast"
        # Its default would hand token_type_ids to models that have no such input.
        config["model_input_names"] = ["input_ids", *["token_type_ids"] * (self.kind == "wordpiece"), "attention_mask"]
        config["clean_up_tokenization_spaces"] = False
        config["split_special_tokens"] = not self.recognises_special_tokens
        config.update({f"{role}_token": self.roles[role] for role in ROLES if role in self.roles})
        # Also those that have a role: transformers.js learns from this list what decoding skips.
        config["additional_special_tokens"] = list(self.special_tokens)
        pre_tokenizer = parts["pre_tokenizer"] or {}
        if "add_prefix_space" in pre_tokenizer:  # transformers resets it to its own default otherwise
            config["add_prefix_space"] = pre_tokenizer["add_prefix_space"]
        if self.kind == "wordpiece" and "lowercase" in (parts["normalizer"] or {}):
            config["do_lower_case"] = parts["normalizer"]["lowercase"]
        return config

    def __repr__(self):
        return f"Tokenizer(kind={self.kind!r}, vocabulary_size={self.vocabulary_size})"


def _role_id(role):
    def get(self):
        return self.vocabulary.get(self.roles.get(role))
    return property(get, doc=f"The id of the {role} token, or None.")


for _role in ROLES:
    setattr(Tokenizer, f"{_role}_id", _role_id(_role))


def _checked(text, name):
    if not isinstance(text, str):
        raise TypeError(f"`{name}` must be a str. Received: {text!r} ({type(text).__name__}).")
    return text


def _without_spaces(text, start, end):
    while start < end and text[end - 1].isspace():
        end -= 1
    while start < end and text[start].isspace():
        start += 1
    return start, end


def _refuse_surrogates(text, cause):
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueError(f"The text holds {text[error.start]!r} at character {error.start}, half of a surrogate pair, "
                         "which is no character. Decode the file as UTF-8 with errors='replace'.") from cause
