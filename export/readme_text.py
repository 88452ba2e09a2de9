"""How to run the files of a bundle that take strings, in each of their runtimes."""
import string

# Runtime -> text, for each that the bundle has; `$..._text_...` are names of this model.
RUNTIMES = {
    "onnx-text": string.Template("""
## ONNX with text

`$onnx_text_file` holds its tokenizer: input `texts`, strings (B,); outputs $onnx_text_outputs. $text_cut

    pip install onnxruntime onnxruntime-extensions

    import numpy, onnxruntime
    from onnxruntime_extensions import get_library_path    # before TensorFlow, where both are used
    options = onnxruntime.SessionOptions()
    options.register_custom_ops_library(get_library_path())
    graph = onnxruntime.InferenceSession("$onnx_text_file", options)
    print(graph.run(["$onnx_text_first"], {"texts": numpy.array(["What a day!"], object)}))

Android, iOS and C#: the packages `onnxruntime-extensions-android`, `onnxruntime-extensions-c` (a pod) and
`Microsoft.ML.OnnxRuntime.Extensions` bring the same operators.
"""),
    "tflite-text": string.Template("""
## TFLite with text

`$tflite_text_file` holds its tokenizer, by tensorflow-text's operators. Signatures $tflite_text_signatures: input
`texts`, one string (1,); outputs $tflite_text_outputs. `num_tokens` says how many tokens the text has; where there is
room for fewer, its end was cut: take a longer signature.

    pip install ai-edge-litert tensorflow-text

    import numpy, tensorflow_text
    from ai_edge_litert.interpreter import InterpreterWithCustomOps
    interpreter = InterpreterWithCustomOps(custom_op_registerers=tensorflow_text.tflite_registrar.SELECT_TFTEXT_OPS,
                                           model_path="$tflite_text_file")
    answer = interpreter.get_signature_runner("$tflite_text_signature")
    print(answer(texts=numpy.array([b"What a day!"], object))["$tflite_text_first"])

Android, iOS and C++: build tensorflow-text's `tflite_ops` into the application and register them with the resolver.
"""),
    "savedmodel-text": string.Template("""
## SavedModel with text

`saved_model_text/1` holds its tokenizer. Signature `serving_default`: input `texts`, strings (B,); outputs
$savedmodel_text_outputs. $text_cut

    import tensorflow as tf, tensorflow_text               # which registers its operators
    model = tf.saved_model.load("saved_model_text/1")
    print(model.signatures["serving_default"](texts=tf.constant(["What a day!"]))["$savedmodel_text_first"])
"""),
}
