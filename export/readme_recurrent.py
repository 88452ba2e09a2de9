"""How to run a bundle that continues text with a memory, in each of its runtimes."""
import string

# Runtime -> text, for each that the bundle has; `$...` are names and sizes of this model.
RUNTIMES = {
    "onnx": string.Template("""
## ONNX: servers, browsers, C++

Inputs `input_ids`, `attention_mask` int64 (B, T), a segment of any length; for each layer i `past_memory_i` float32
(B, $memory, $hidden) and once `past_memory_mask` int64 (B, $memory), all zeros where a text begins. Outputs `logits`
(B, T, $vocabulary), `present_memory_i` and `present_memory_mask`, which are the next call's past. There are no
positions, only distances, and there is no limit of length.

**Browser (JavaScript, onnxruntime-web)**

$web_session

**C++**

    #include <onnxruntime_cxx_api.h>
    Ort::Env env;
    Ort::Session session(env, "onnx/model.onnx", Ort::SessionOptions{});
    // Call session.Run with the names above; feed each present_* output back as past_*.

**Triton**: put `model.onnx` in `<repository>/<name>/1/` with `platform: "onnxruntime_onnx"` in `config.pbtxt`.
"""),
    "tflite": string.Template("""
## TFLite: phones and small devices

Signatures `prefill`, which reads a segment of $room tokens, and `decode`, which reads one. Inputs `tokens` and `mask`
int32 (1, T), for each layer i `memory_i` float32 (1, $memory, $hidden), and once `memory_mask` int32 (1, $memory),
zeros where a text begins. Outputs: `logits` (1, T, $vocabulary), and the memory under the same names, to be fed to the
next call. Fill a text up in front of its first token, with a mask of 0 there, and nowhere else.

**Android (Kotlin)**, `implementation("com.google.ai.edge.litert:litert:1.0.1")`

    val interpreter = Interpreter(File(filesDir, "model.tflite"), Interpreter.Options().setNumThreads(4))
    val inputs = mutableMapOf<String, Any>("tokens" to arrayOf(intArrayOf(token)), "mask" to arrayOf(intArrayOf(1)))
    inputs.putAll(memory)                       // "memory_0" to FloatBuffer, ...
    interpreter.runSignature(inputs, outputs, "decode")

**C++**

$tflite_cpp
    auto* decode = interpreter->GetSignatureRunner("decode");
    decode->AllocateTensors();
    decode->input_tensor("tokens")->data.i32[0] = token;
    decode->Invoke();
"""),
    "savedmodel": string.Template("""
## SavedModel: TensorFlow and TensorFlow Serving

Signatures `serving_default` (`token_ids` int32 (B, T), `padding_mask` bool (B, T) -> `logits` (B, T, $vocabulary)),
which reads a text as one segment, and `decode`, the same after a memory: for each layer i `memory_i` float32
(B, $memory, $hidden), and once `memory_mask` bool (B, $memory), in and out, all zeros where a text begins.

    import tensorflow as tf
    model = tf.saved_model.load("saved_model/1")
    logits = model.signatures["serving_default"](token_ids=ids, padding_mask=mask)["logits"]

    tensorflow_model_server --model_name=$name --model_base_path="$$PWD/saved_model" --rest_api_port=8501
"""),
}
