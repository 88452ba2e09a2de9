"""kzoo: transformers for Keras 3, trained with `fit` and shipped as SavedModel, ONNX and TFLite."""
import os as _os

if not _os.path.isdir(_os.path.join(_os.path.dirname(__file__), "export")):
    # In a checkout the export package lies beside this one; an installed kzoo holds it as a subpackage.
    __path__.append(_os.path.dirname(_os.path.dirname(_os.path.abspath(__file__))))
