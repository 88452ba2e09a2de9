"""Running text for a model with a memory: its ids on disk, read in order."""
from kzoo.evaluation.streams import StreamScorer
from kzoo.training.carried_memory import CarriedMemory
from kzoo.training.corpus import Corpus
from kzoo.training.losses import weighted_arguments
from kzoo.training.row_batches import make_dataset, step_batches
from kzoo.training.token_streams import TokenStreams


class Streams(Corpus):
    """Data of text-generation by models with a memory: B streams of text, documents one after the other.

    A document ends with the tokenizer's end-of-sequence token, whose name (`<|endoftext|>`) may stand in the text.
    Arguments are those of `Corpus`.
    """

    scorer_class = StreamScorer
    documents = True

    def make_batches(self, options):
        self.batch_size = options.batch_size
        return TokenStreams(self.train, self.sequence_length, options.batch_size, self.tokenizer.eos_id)

    def steps_per_epoch(self):
        return -(-self.windows.batches_per_epoch // self.batches_per_step)

    def tokens(self, step):
        return self.windows.real_tokens(step * self.batches_per_step)

    def dataset(self, first, last):
        return make_dataset(lambda: step_batches(self.windows.batch, first, last, self.batches_per_step),
                            self.windows.batch(first), one_shape=True)

    def training_model(self, model):
        return CarriedMemory(model, self.batch_size)

    def compile_arguments(self, label_smoothing):
        return weighted_arguments(label_smoothing)

    def reported_loss(self, logs):
        return logs["weighted_loss"]
