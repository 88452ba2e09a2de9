"""Files that take strings: which there are, what stands around a text in them, and the texts that each is tried on."""
from kzoo.export.signature_tables import ANSWERS, REWRITING

# Runtime of a file that takes strings -> that of the file beside it that takes ids, and needs nothing more than it.
CORES = {"savedmodel-text": "savedmodel", "onnx-text": "onnx", "tflite-text": "tflite"}

# Runtime -> kinds of tokenizers that its library has operators for.
KINDS = {
    "savedmodel-text": ("character", "wordpiece", "sentencepiece"),
    "onnx-text": ("byte-bpe", "wordpiece", "sentencepiece"),
    "tflite-text": ("wordpiece", "sentencepiece"),
}

# Where tokenizers are known to differ from one another. Runs of one sign, such as "----", are not among them: cut in
# different places they are equally likely to a unigram model, and a library may take either.
DIFFICULT = (
    "The lighthouse keeper counts the ships that pass.", "", " ", " \t two  blanks \n\n and\tlines \r\n ", "a", ".",
    "naïve café Köln", "e\u0301 and é, I\u0307 and İ", "weißen STRASSE Straße ẞ", "ΣΊΣΥΦΟΣ ΟΔΥΣΣΕΎΣ", "ﬁsh ½ ① Ⅷ ǅ",
    "日本語のテキスト と 中文字符 한국어 각", "ひらがな カタカナ が ぱ", "हिन्दी ไทย עִבְרִית اَلْعَرَبِيَّةُ", "豈 𠀀 樂",
    "🙂👨‍👩‍👧 🇪🇺 ✂️", "\x00 nul \x00\x00x\x00", "\x07 bell \x1f \x7f \x85 \u200b\u200d \ufeff x\u00ady",
    "\ufffd \ufffe \ue000 ꙮ",
    "[CLS] [MASK] [SEP] [PAD] [UNK] [cls]", "<|endoftext|> </s> <unk> <pad> <s> <mask> <extra_id_0> <0x41>",
    "it's we're I'll 'S don''t o'clock", "12345 3.14 $5.99 1,000,000 ٣٤", "snake_case camelCase x=a[i]+=1;  // no",
    "!?... -- \u2014 \u00a1\u00bf", "\u2028 line \u2029 \u00a0\u3000\u1680 space", "a" * 100, "a" * 101, "ä" * 101,
    "ship\u2581ship \u2581 x", "<b>Tom &amp; Jerry</b> https://example.org/?q=1#x", "supercalifragilistic" * 4,
    "☃☃ a☃b ab☃",
)


def reads_text(runtime):
    """Whether files for a runtime take strings."""
    return runtime in CORES


def text_file(task):
    """What the ONNX or TFLite file that takes strings is called."""
    return "model_text" if task in ANSWERS else "tokenizer"


def text_formats(task, tokenizer, formats):
    """(runtimes of text files to write beside those of `formats`, sentences on why others have none).

    Args:
        task: of the model.
        tokenizer: its tokenizer, or None.
        formats: file formats that will be written.

    Raises: ValueError if there is none at all.
    """
    refusal = None
    if tokenizer is None:
        refusal = "`text` needs a tokenizer, and this model has none."
    elif task == "question-answering":
        refusal = "`text` is for models of one text; question-answering reads two."
    elif task == "fill-mask" and not tokenizer.recognises_special_tokens:
        refusal = (f"`text` is of no use to fill-mask with this tokenizer: it takes {tokenizer.roles.get('mask')!r} "
                   "in a text for plain characters.")
    if refusal:
        raise ValueError(refusal)
    possible = [runtime for runtime, core in CORES.items() if core in formats]
    found = [runtime for runtime in possible if tokenizer.kind in KINDS[runtime]]
    if not found:
        able = ", ".join(CORES[runtime] for runtime, kinds in KINDS.items() if tokenizer.kind in kinds) or "none"
        raise ValueError(f"`text`: no format of {', '.join(formats)} has operators for a {tokenizer.kind} tokenizer. "
                         f"These have: {able}.")
    return found, [f"{CORES[runtime]}: no file that takes text, for want of operators for a {tokenizer.kind} tokenizer"
                   for runtime in possible if runtime not in found]


def around(task, tokenizer, eos_id=None):
    """(ids before, ids after): what stands around a text.

    Args:
        task: of the model.
        tokenizer: its tokenizer.
        eos_id: what ends a source, for tasks of `REWRITING`.
    """
    before, after = map(list, tokenizer.template)
    if task in REWRITING:
        return before, after if after[-1:] == [eos_id] else [*after, eos_id]
    if task not in ANSWERS:  # a prompt is to be continued: it is begun, and not ended
        return ([tokenizer.bos_id] if before[:1] == [tokenizer.bos_id] != [None] else []), []
    return before, after


def wanted_ids(task, tokenizer, texts, eos_id=None, longest=None):
    """Lists of the ids that a file must make of each text, by the tokenizer itself.

    Args:
        task, tokenizer, eos_id: as for `around`.
        texts: list of str.
        longest: most ids, special ones included; of a text that has more the end is cut. None or 0: no limit.
    """
    before, after = around(task, tokenizer, eos_id)
    rows = tokenizer.encode_batch(texts, add_special_tokens=False)
    room = None if not longest else longest - len(before) - len(after)
    return [[*before, *row[:room], *after] for row in rows]


def refuse_differences(runtime, texts, wanted, found):
    """Raise ValueError if the ids `found` inside a file are not those `wanted`; both are lists of lists, one a text."""
    wrong = [text for text, one, other in zip(texts, wanted, found, strict=True) if list(one) != list(other)]
    if wrong:
        raise ValueError(f"A {CORES[runtime]} file with text would give other ids than the tokenizer for {len(wrong)} "
                         f"of {len(texts)} texts, such as {wrong[0]!r:.80}. Export without `text`, or without "
                         f"{CORES[runtime]}.")
