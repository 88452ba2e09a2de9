"""A tokenizer for text whose tokens are parted by blanks already: pieces of words, phones, commands."""
import collections
import json
import pathlib

SPECIAL = ("<pad>", "</s>", "<unk>")  # ids 0, 1, 2, as the Transformer presets have them
LONGEST = 1000                        # characters of a token


def write(folder, texts):
    """Write tokenizer.json into `folder`: one id a token of `texts`, frequent ones first; texts end with </s>.

    It is a WordPiece vocabulary of whole words without its rules for punctuation, which kzoo and the tokenizers
    library read alike.
    """
    import tokenizers

    counts = collections.Counter(token for text in texts for token in text.split())
    tokens = sorted(counts, key=lambda token: (-counts[token], token))
    vocabulary = {token: index for index, token in enumerate([*SPECIAL, *tokens])}
    made = tokenizers.Tokenizer(tokenizers.models.WordPiece(vocabulary, unk_token="<unk>",
                                                            max_input_chars_per_word=LONGEST))
    made.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    made.decoder = tokenizers.decoders.WordPiece(prefix="\0", cleanup=False)  # joins by blanks and changes nothing
    made.post_processor = tokenizers.processors.TemplateProcessing(single="$A </s>", pair="$A $B </s>",
                                                                   special_tokens=[("</s>", 1)])
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tokenizer.json").write_text(made.to_str(), encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps(
        {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>",
         "tokenizer_class": "PreTrainedTokenizerFast"}), encoding="utf-8")
    return folder
