"""Running text: its ids on disk, and the part of it, or the other text, that is held out."""
from kzoo.evaluation import WindowScorer, metrics
from kzoo.training.progress import Progress
from kzoo.training.run_folder import TOKENS
from kzoo.training.task_data import Scorer, TaskData
from kzoo.training.text_files import split_point
from kzoo.training.token_files import encode_text
from kzoo.training.token_windows import TokenWindows, make_dataset


class Corpus(TaskData):
    """Data of text-generation: windows of text, each token to be told from those before.

    Args:
        train: (N,) ids.
        valid: (M,) ids, or None where nothing is held out.
        valid_characters: how many `valid` stands for.
        sequence_length: T.
        options: `TrainOptions`.
        tokenizer: what made the ids.
    """

    validation_tokens = 131_072
    scorer_class = WindowScorer
    documents = False

    def __init__(self, train, valid, valid_characters, sequence_length, options, tokenizer):
        self.train, self.valid = train, valid
        self.valid_characters = valid_characters
        self.sequence_length = sequence_length
        self.batches_per_step = options.gradient_accumulation
        self.largest_batch = options.batch_size * sequence_length
        self.tokenizer = tokenizer
        self.windows = self.make_batches(options)

    def make_batches(self, options):
        """What cuts `train` into batches."""
        length = self.text_length(self.sequence_length, self.tokenizer)
        return TokenWindows(self.train, length, options.batch_size, options.seed)

    @staticmethod
    def text_length(sequence_length, tokenizer):
        """How many tokens of a window are text."""
        return sequence_length

    def steps_per_epoch(self):
        return self.windows.steps_per_epoch(self.batches_per_step)

    def tokens(self, step):
        return step * self.batches_per_step * self.largest_batch

    def dataset(self, first, last):
        return make_dataset(self.windows, first, last)

    def scorer(self, model):
        return CorpusScorer(model, self) if self.valid is not None else None


class CorpusScorer(Scorer):
    """Loss over windows of the held-out text, and at the end the metrics of `kzoo.evaluate`."""

    def __init__(self, model, corpus):
        self.corpus = corpus
        self.tokens = len(corpus.valid) - 1
        self._scorer = corpus.scorer_class(model, corpus.sequence_length)

    def score(self, max_tokens=None, report=None):
        nats, count = self._scorer.score(self.corpus.valid, max_tokens, report)
        return {"loss": nats / count}

    def results(self, max_tokens=None, report=None):
        nats, count = self._scorer.score(self.corpus.valid, max_tokens, report)
        return metrics(nats, count, self.corpus.valid, self.corpus.valid_characters, self.corpus.tokenizer)


def encode_corpus(data_class, folder, tokenizer, text, valid_text, options, config):
    """Encode what is not yet in the run's folder.

    Args:
        data_class: Corpus or a subclass.
        folder: of the run.
        text, valid_text: `Text`; without the latter the end of the former is held out.
        options: `TrainOptions`.
        config: the model's, for the length of a window where `options` leave it open.

    Returns: a `data_class`.
    Raises: ValueError if either text is shorter than one window and the token after.
    """
    folder = folder / TOKENS
    folder.mkdir(exist_ok=True)
    window = options.sequence_length or config.max_sequence_length
    length = data_class.text_length(window, tokenizer)
    stop, valid_start = text.characters, 0
    if valid_text is None and options.validation_split:
        stop = valid_start = split_point(text.characters, options.validation_split)
        valid_text = text
    documents = data_class.documents
    train = _encode(text, tokenizer, folder, "training", 0, stop, length, documents)
    if valid_text is None:
        return data_class(train, None, 0, window, options, tokenizer)
    valid = _encode(valid_text, tokenizer, folder, "validation", valid_start, valid_text.characters, length, documents)
    return data_class(train, valid, valid_text.characters - valid_start, window, options, tokenizer)


def _encode(text, tokenizer, folder, part, start, stop, length, documents):
    with Progress(f"encoding the {part} text", stop - start, "characters") as progress:
        tokens = encode_text(text, tokenizer, folder, part, start, stop, progress.update, documents)
    if len(tokens) <= length:
        raise ValueError(f"The {part} part of {', '.join(map(str, text.paths))} is too short: {len(tokens)} tokens, a "
                         f"window needs {length + 1}. Give more text or a smaller `sequence_length`.")
    return tokens
