"""SavedModel with its tokenizer inside, by tensorflow-text: strings in, the answer or their ids out."""
import pathlib

import tensorflow as tf

from kzoo.export.saved_model import write_saved_model
from kzoo.export.target import Target
from kzoo.export.text_forms import DIFFICULT, refuse_differences
from kzoo.export.text_graph import text_endpoint
from kzoo.tokenizers_in_graph import in_graph_tokenizer


class SavedModelTextTarget(Target):
    """`saved_model_text/1/`: a folder of its own, since nothing in it loads without `import tensorflow_text`."""

    name = "savedmodel-text"

    def write(self, model, folder, quantize="none"):
        self.check(quantize)
        path = pathlib.Path(folder, self.path(quantize))
        twin = in_graph_tokenizer(model.tokenizer, add_special_tokens=False)
        found = twin(tf.constant([text.encode("utf-8") for text in DIFFICULT])).to_list()
        refuse_differences(self.name, DIFFICULT, model.tokenizer.encode_batch(DIFFICULT, add_special_tokens=False),
                           found)

        def tokenize(texts):
            ids = twin(texts)
            return ids.flat_values, *(tf.cast(rows, tf.int32) for rows in (ids.row_starts(), ids.row_lengths()))

        write_saved_model(model, self.signatures(model).values(), path,
                          lambda model, signature: text_endpoint(model, signature, tokenize), resources=[twin])
        return sorted(str(file.relative_to(folder)) for file in path.rglob("*") if file.is_file())
