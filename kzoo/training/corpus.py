"""The encoded training text and the part of it, or the other text, that is held out."""
import dataclasses

from kzoo.training.progress import Progress
from kzoo.training.run_folder import TOKENS
from kzoo.training.text_files import split_point
from kzoo.training.token_files import encode_text
from kzoo.training.token_windows import TokenWindows


@dataclasses.dataclass(frozen=True)
class Corpus:
    """Ids on disk.

    Attributes:
        train: (N,) ids.
        valid: (M,) ids, or None where nothing is held out.
        valid_characters: how many `valid` stands for.
        sequence_length: T.
    """
    train: object
    valid: object
    valid_characters: int
    sequence_length: int

    def windows(self, options):
        """The training batches."""
        return TokenWindows(self.train, self.sequence_length, options.batch_size, options.seed)


def encode_corpus(folder, tokenizer, text, valid_text, options, config):
    """Encode what is not yet in the run's folder.

    Args:
        folder: of the run.
        text, valid_text: `Text`; without the latter the end of the former is held out.
        options: `TrainOptions`.
        config: the model's, for the length of a window where `options` leave it open.

    Returns: Corpus.
    Raises: ValueError if either text is shorter than one window and the token after.
    """
    folder = folder / TOKENS
    folder.mkdir(exist_ok=True)
    length = options.sequence_length or config.max_sequence_length
    stop, valid_start = text.characters, 0
    if valid_text is None and options.validation_split:
        stop = valid_start = split_point(text.characters, options.validation_split)
        valid_text = text
    train = _encode(text, tokenizer, folder, "training", 0, stop, length)
    if valid_text is None:
        return Corpus(train, None, 0, length)
    valid = _encode(valid_text, tokenizer, folder, "validation", valid_start, valid_text.characters, length)
    return Corpus(train, valid, valid_text.characters - valid_start, length)


def _encode(text, tokenizer, folder, part, start, stop, length):
    with Progress(f"encoding the {part} text", stop - start, "characters") as progress:
        tokens = encode_text(text, tokenizer, folder, part, start, stop, progress.update)
    if len(tokens) <= length:
        raise ValueError(f"The {part} part of {', '.join(map(str, text.paths))} is too short: {len(tokens)} tokens, a "
                         f"window needs {length + 1}. Give more text or a smaller `sequence_length`.")
    return tokens
