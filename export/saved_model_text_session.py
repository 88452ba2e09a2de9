"""SavedModels that take strings, in TensorFlow with tensorflow-text; Keras is not needed."""
import tensorflow as tf
import tensorflow_text  # noqa: F401 - registers the operators that are in the graph

from kzoo.export.saved_model_session import SavedModelSession
from kzoo.export.signature_tables import TABLES
from kzoo.export.text_session import TextSession, strings


class SavedModelText(TextSession, SavedModelSession):
    """A session on the one signature of a SavedModel; options are those of `SavedModelSession`."""

    runtime = "savedmodel-text"

    def _read(self, texts):
        (form,) = self.signatures.values()
        results = self._functions[form.file_name](texts=tf.constant(strings([text.encode("utf-8") for text in texts])))
        return {row.name: strings([each.decode("utf-8") for each in results[row.file_name].numpy()])
                if row.dtype == "string" else results[row.file_name].numpy() for row in form.outputs}


SESSIONS = dict.fromkeys((task for task, forms in TABLES.items() if SavedModelText.runtime in forms), SavedModelText)
