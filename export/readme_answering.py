"""How to run a bundle that answers a text at once, in each of its runtimes."""
import string

# Runtime -> text, for each that the bundle has; `$...` are names and sizes of this model.
RUNTIMES = {
    "onnx": string.Template("""
## ONNX: servers, browsers, C++

Inputs $onnx_inputs. Outputs $onnx_outputs. Any batch size, any length up to $context; 0 in `attention_mask` hides
padding.

**Python, optimum**

    from optimum.onnxruntime import $optimum
    from transformers import AutoTokenizer
    model = $optimum.from_pretrained("$folder", subfolder="onnx", file_name="model.onnx")
    answer = model(**AutoTokenizer.from_pretrained("$folder")("$text", return_tensors="np"))

$javascript
**Browser (JavaScript, onnxruntime-web alone)**

$web_session
    const tensor = (values) => new ort.Tensor("int64", BigInt64Array.from(values, BigInt), [1, values.length]);
    const ids = [1, 2, 3];                      // of a text, by the tokenizer
    const outputs = await session.run({ $web_feeds });
    console.log(Array.from(outputs.$web_output.data));

**C++**

    #include <onnxruntime_cxx_api.h>
    Ort::Env env;
    Ort::Session session(env, "onnx/model.onnx", Ort::SessionOptions{});
    // Call session.Run with the names above.

**Triton**: put `model.onnx` in `<repository>/<name>/1/` with `platform: "onnxruntime_onnx"` in `config.pbtxt`.
"""),
    "tflite": string.Template("""
## TFLite: phones and small devices

Signatures $buckets: one text each, padded to the length in the name. Inputs $tflite_inputs; 0 in `attention_mask` hides
padding. Outputs $tflite_outputs. Take the shortest that holds the text; what it says of padding means nothing.

**Android (Kotlin)**, `implementation("com.google.ai.edge.litert:litert:1.0.1")`

    val interpreter = Interpreter(File(filesDir, "model.tflite"), Interpreter.Options().setNumThreads(4))
    interpreter.runSignature(mapOf("input_ids" to arrayOf(ids), "attention_mask" to arrayOf(mask)), outputs, "$bucket")

**iOS (Swift)**, `pod 'TensorFlowLiteC'`: the signature runners are in the C interface

    let model = TfLiteModelCreateFromFile(path)
    let interpreter = TfLiteInterpreterCreate(model, TfLiteInterpreterOptionsCreate())
    let forward = TfLiteInterpreterGetSignatureRunner(interpreter, "$bucket")
    TfLiteSignatureRunnerAllocateTensors(forward)
    TfLiteTensorCopyFromBuffer(TfLiteSignatureRunnerGetInputTensor(forward, "input_ids"), ids, ids.count * 4)
    TfLiteSignatureRunnerInvoke(forward)

**C++**

$tflite_cpp
    auto* forward = interpreter->GetSignatureRunner("$bucket");
    forward->AllocateTensors();
    std::copy(ids.begin(), ids.end(), forward->input_tensor("input_ids")->data.i32);
    forward->Invoke();
"""),
    "savedmodel": string.Template("""
## SavedModel: TensorFlow and TensorFlow Serving

Signature `serving_default`. Inputs $savedmodel_inputs. Outputs $savedmodel_outputs. False in `padding_mask` hides
padding.

    import tensorflow as tf
    model = tf.saved_model.load("saved_model/1")
    outputs = model.signatures["serving_default"]($savedmodel_call)

    tensorflow_model_server --model_name=$name --model_base_path="$$PWD/saved_model" --rest_api_port=8501
"""),
}

# Task -> Optimum's class.
OPTIMUM = {
    "text-classification": "ORTModelForSequenceClassification",
    "token-classification": "ORTModelForTokenClassification",
    "fill-mask": "ORTModelForMaskedLM",
    "question-answering": "ORTModelForQuestionAnswering",
    "feature-extraction": "ORTModelForFeatureExtraction",
}
