"""How to run a bundle that continues text, in each of its runtimes."""
import string

# Runtime -> text, for each that the bundle has; `$...` are names and sizes of this model.
RUNTIMES = {
    "onnx": string.Template("""
## ONNX: servers, browsers, C++

Inputs (int64) `input_ids` (B, T), `attention_mask` (B, past + T), `position_ids` (B, T), and for each layer i
`past_key_values.i.key` and `.value` (B, $heads, past, $width), float32; past may be 0. Outputs `logits`
(B, T, $vocabulary) and `present.i.key`, `present.i.value`, which are the next call's past.

**Python, transformers and optimum**

    from optimum.onnxruntime import ORTModelForCausalLM
    model = ORTModelForCausalLM.from_pretrained("$folder", subfolder="onnx", file_name="model.onnx")

**Python, onnxruntime-genai**

    import onnxruntime_genai as og
    model = og.Model("$folder/onnx")            # reads genai_config.json

$javascript
**Browser (JavaScript, onnxruntime-web alone)**

$web_session
    const tensor = (values) => new ort.Tensor("int64", BigInt64Array.from(values, BigInt), [1, values.length]);
    const caches = session.inputNames.filter((name) => name.startsWith("past_key_values"));
    let past = Object.fromEntries(caches.map((name) => [name, new ort.Tensor("float32", [], [1, $heads, 0, $width])]));
    const ids = [1, 2, 3];                      // the prompt, by the tokenizer
    for (let read = 0, step = 0; step < 32; step++) {
        const outputs = await session.run({ ...past, input_ids: tensor(ids.slice(read)),
            attention_mask: tensor(ids.map(() => 1)), position_ids: tensor([...ids.keys()].slice(read)) });
        past = Object.fromEntries(caches.map((name) => [name, outputs[name.replace("past_key_values", "present")]]));
        read = ids.length;
        ids.push(outputs.logits.data.slice(-$vocabulary).reduce((best, x, i, all) => x > all[best] ? i : best, 0));
    }
    console.log(ids);

**C++**

    #include <onnxruntime_cxx_api.h>
    Ort::Env env;
    Ort::Session session(env, "onnx/model.onnx", Ort::SessionOptions{});
    // Call session.Run with the names above; feed each present.* output back as past_key_values.*.

**Triton**: put `model.onnx` in `<repository>/<name>/1/` with `platform: "onnxruntime_onnx"` in `config.pbtxt`.
"""),
    "tflite": string.Template("""
## TFLite: phones and small devices

Signatures $prefill
read a prompt, `decode` one token more. Inputs `tokens` int32 (1, T), `input_pos` int32 (T,), the positions from 0,
`mask` float32 (1, 1, T, $room), zeros (the causal rule is in the graph), and for each layer i `kv_cache_k_i`,
`kv_cache_v_i` float32 (1, $room, $heads, $width), zeros at first. Outputs: the caches under the same names, to be
fed to the next call, and from `decode` `logits` (1, 1, $vocabulary). Fill a bucket that is longer than what remains
of the prompt with any tokens; those behind the real ones are overwritten before they are seen. Read all but the last
prompt token with `prefill`; give that one to `decode`.

**Android (Kotlin)**, `implementation("com.google.ai.edge.litert:litert:1.0.1")`

    val interpreter = Interpreter(File(filesDir, "model.tflite"), Interpreter.Options().setNumThreads(4))
    val inputs = mutableMapOf<String, Any>("tokens" to arrayOf(intArrayOf(token)), "input_pos" to intArrayOf(position))
    inputs.putAll(caches)                       // "kv_cache_k_0" to FloatBuffer, ...
    interpreter.runSignature(inputs, outputs, "decode")

**iOS (Swift)**, `pod 'TensorFlowLiteC'`: the signature runners are in the C interface

    let model = TfLiteModelCreateFromFile(path)
    let interpreter = TfLiteInterpreterCreate(model, TfLiteInterpreterOptionsCreate())
    let decode = TfLiteInterpreterGetSignatureRunner(interpreter, "decode")
    TfLiteSignatureRunnerAllocateTensors(decode)
    TfLiteTensorCopyFromBuffer(TfLiteSignatureRunnerGetInputTensor(decode, "tokens"), &token, 4)
    TfLiteSignatureRunnerInvoke(decode)

**C++**

$tflite_cpp
    auto* decode = interpreter->GetSignatureRunner("decode");
    decode->AllocateTensors();
    decode->input_tensor("tokens")->data.i32[0] = token;
    decode->Invoke();
$litertlm"""),
    "savedmodel": string.Template("""
## SavedModel: TensorFlow and TensorFlow Serving

Signatures `serving_default` (`token_ids` int32 (B, T), `padding_mask` bool (B, T) -> `logits` (B, T, $vocabulary)),
`prefill` (the same inputs -> `logits` and caches) and `decode` (`token_ids` (B, T), `padding_mask` (B, past + T) and
the caches -> `logits` and caches). Caches are `cache_keys_i`, `cache_values_i` float32 (B, S, $heads, $width).

    import tensorflow as tf
    model = tf.saved_model.load("saved_model/1")
    logits = model.signatures["serving_default"](token_ids=ids, padding_mask=mask)["logits"]

    tensorflow_model_server --model_name=$name --model_base_path="$$PWD/saved_model" --rest_api_port=8501
"""),
}

LITERTLM = """
**LiteRT-LM**: `model.litertlm` holds the same model with its tokenizer.

    import litert_lm
    with litert_lm.Engine("tflite/model.litertlm") as engine, engine.create_session(
            sampler_config=litert_lm.SamplerConfig(top_k=1), max_output_tokens=32) as session:
        session.run_prefill(["Hello"])
        print(session.run_decode().texts[0])
"""
