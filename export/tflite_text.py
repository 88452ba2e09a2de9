"""TFLite with its tokenizer inside, by tensorflow-text's operators: a string in, the answer or its ids out."""
import tensorflow as tf

from kzoo.export.artifact import main_file
from kzoo.export.saved_model import write_saved_model
from kzoo.export.text_forms import DIFFICULT, refuse_differences, text_file
from kzoo.export.text_graph import text_endpoint
from kzoo.export.tflite_model import TFLiteTarget
from kzoo.tokenizers_in_tflite import tflite_tokenizer


class TFLiteTextTarget(TFLiteTarget):
    """`tflite/model_text.tflite`: one text at a time, `answer_<T>` for each bucket; `tokenizer.tflite` for tasks whose
    model is run step by step."""

    name = "tflite-text"
    quantisations = ("none", "fp16", "int8", "int4")  # samples would have to pass through the tokenizer's operators
    custom = True

    def _save(self, model, rows, folder):
        twin = tflite_tokenizer(model.tokenizer)
        found = [twin(tf.constant([text.encode("utf-8")])).numpy().tolist() for text in DIFFICULT]
        refuse_differences(self.name, DIFFICULT, model.tokenizer.encode_batch(DIFFICULT, add_special_tokens=False),
                           found)

        def tokenize(texts):
            ids = twin(texts)
            return ids, tf.zeros([1], tf.int32), tf.reshape(tf.size(ids), [1])

        write_saved_model(model, rows, folder, lambda model, signature: text_endpoint(model, signature, tokenize))

    def path(self, quantize="none", task="text-generation"):
        return main_file(self.name, quantize, text_file(task))
