"""OPUS-MT's tokenizer: one SentencePiece model for sources, one for targets, and the ids of their pieces.

A piece has the id that vocab.json gives to its spelling, and so has a run of characters that its SentencePiece model
does not know; what vocab.json lacks is `<unk>`. tokenizer.json cannot say that, so these files are kept as they are.

Source: Tiedemann and Thottingal 2020, "OPUS-MT: Building open translation services for the World".
"""
import functools
import hashlib
import json
import pathlib
import re

from kzoo import files
from kzoo import tokenizer_settings as declared
from kzoo.tokenizer_files import read_vocabulary, sentencepiece_bytes
from kzoo.tokenizers import ROLES, Tokenizer

MODELS = ("source.spm", "target.spm")
VOCABULARIES = ("vocab.json", "target_vocab.json")  # the second only where the two languages share no table
KEPT = ("model_max_length", "source_lang", "target_lang")  # of tokenizer_config.json
LANGUAGE = re.compile("(>>.*?<<)?", re.DOTALL)  # in front of a text, or nothing
SPACE = "▁"


def lies_in(path):
    """Whether a folder, or the one of a .spm file, holds a part of such a tokenizer."""
    path = pathlib.Path(path)
    return path.suffix == ".spm" or any((path / name).is_file() for name in MODELS)


def read(path):
    """A `MarianTokenizer` from a folder. Raises: as `kzoo.tokenizers.load_tokenizer`."""
    folder = pathlib.Path(path)
    folder = folder.parent if folder.suffix == ".spm" else folder
    settings = declared.read(folder)
    names = VOCABULARIES if settings.get("separate_vocabs") else VOCABULARIES[:1] * 2
    for name in (*MODELS, *names):
        if not (folder / name).is_file():
            raise FileNotFoundError(f"{folder / name} does not exist. The tokenizer of a Marian folder is "
                                    f"{', '.join(dict.fromkeys((*MODELS, *names)))}.")
    vocabularies = tuple(read_vocabulary(folder / name) for name in names)
    for name, vocabulary in zip(names, vocabularies, strict=True):
        if set(vocabulary.values()) != set(range(len(vocabulary))):
            raise ValueError(f"{folder / name} must number its {len(vocabulary)} tokens from 0 without a gap.")
    roles = declared.roles(settings, vocabularies[0], ("</s>", "<unk>", "<pad>"), folder)
    for role in ("eos", "unk", *roles):
        if any(roles.get(role) not in vocabulary for vocabulary in vocabularies):
            raise ValueError(f"{folder} has no {role} token in {' and '.join(dict.fromkeys(names))}, which must hold "
                             "it.")
    return MarianTokenizer(tuple(sentencepiece_bytes(folder / name) for name in MODELS), vocabularies, roles,
                           {name: settings[name] for name in KEPT if name in settings},
                           declared.common(settings, "marian")["recognises_special_tokens"])


class MarianTokenizer(Tokenizer):
    """Encodes sources and decodes what a translator makes of them; its `targets` encodes targets.

    A text that begins with `>>fra<<` names the language that a model of several is to translate into: one token.

    Args:
        models: bytes of the SentencePiece models of sources and of targets.
        vocabularies: for both, dict piece -> id; ids count from 0.
        roles, settings, recognises_special_tokens: as of `Tokenizer`; the roles have eos and unk.
        side: 0 encodes sources, 1 targets.
    """

    def __init__(self, models, vocabularies, roles, settings=None, recognises_special_tokens=False, side=0):
        import sentencepiece

        super().__init__("marian", roles=roles, settings=settings, recognises_special_tokens=recognises_special_tokens)
        self.models, self.vocabularies, self.side = models, vocabularies, side
        self.vocabulary = vocabularies[side]
        self.separate = vocabularies[0] != vocabularies[1]
        self._splitter = self._joiner = sentencepiece.SentencePieceProcessor(model_proto=models[side])
        if side != self.separate:  # transformers joins pieces by the sources' model where both have one table
            self._joiner = sentencepiece.SentencePieceProcessor(model_proto=models[self.separate])

    @functools.cached_property
    def targets(self):
        return self if self.side else MarianTokenizer(self.models, self.vocabularies, self.roles, self.settings,
                                                      self.recognises_special_tokens, side=1)

    @property
    def fast(self):
        raise ValueError("The tokenizer of a Marian folder (source.spm, target.spm) has no form of the `tokenizers` "
                         "library, which places of tokens in a text are taken from. Use it for translation.")

    @functools.cached_property
    def special_tokens(self):
        return {token: self.vocabulary[token] for token in sorted(set(self.roles.values()), key=self.vocabulary.get)}

    @property
    def template(self):
        return (), (self.eos_id,)

    @property
    def pair_template(self):
        return (), (), (self.eos_id,)

    @functools.cached_property
    def fingerprint(self):
        rest = [self.kind, self.recognises_special_tokens, self.side, self.special_tokens, self.vocabularies]
        return hashlib.sha256(b"\0".join([*self.models, json.dumps(rest).encode("utf-8")])).hexdigest()

    def _rows(self, texts, add_special_tokens, recognise):
        if recognise:
            names = re.compile(f"({'|'.join(map(re.escape, self.special_tokens))})")
            rows = [[piece for place, part in enumerate(names.split(text))
                     for piece in ([part] if place % 2 else self._split([part])[0])] for text in texts]
        else:
            rows = self._split(texts)
        unknown, after = self.unk_id, self.template[1] if add_special_tokens else ()
        return [[*(self.vocabulary.get(piece, unknown) for piece in row), *after] for row in rows]

    def _split(self, texts):
        """The pieces of each text, as they are spelled."""
        codes = [LANGUAGE.match(text).group() for text in texts]
        rests = [text[len(code):] for text, code in zip(texts, codes, strict=True)]
        rows = self._splitter.encode(rests, out_type=str)
        return [[code, *row] if code else row for code, row in zip(codes, rows, strict=True)]

    def decode(self, ids, skip_special_tokens=True):
        if self.separate and not self.side:
            return self.targets.decode(ids, skip_special_tokens)
        text, run = "", []
        for token in map(self.id_to_token, self._checked_ids(ids)):
            if token not in self.special_tokens:
                run.append(token)
            elif not skip_special_tokens:
                text, run = f"{text}{self._join(run)}{token} ", []
        return (text + self._join(run)).replace(SPACE, " ").strip()

    def _join(self, pieces):
        return self._joiner.decode(pieces) if pieces else ""

    def save(self, folder):
        """Write source.spm, target.spm, vocab.json and tokenizer_config.json, from which transformers and
        `load_tokenizer` make the same tokenizer. Args, Raises: as of `Tokenizer`.
        """
        folder = pathlib.Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        for name, model in zip(MODELS, self.models, strict=True):
            files.write_atomic(folder / name, model)
        for name, vocabulary in zip(VOCABULARIES[:1 + self.separate], self.vocabularies, strict=False):
            files.write_json(folder / name, vocabulary)
        files.write_json(folder / "tokenizer_config.json", {
            **self.settings, "tokenizer_class": "MarianTokenizer", "separate_vocabs": self.separate,
            "split_special_tokens": not self.recognises_special_tokens,
            **{f"{role}_token": self.roles[role] for role in ROLES if role in self.roles}})
