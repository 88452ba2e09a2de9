"""How to run a bundle that translates or summarises, in each of its runtimes."""
import string

# Runtime -> text, for each that the bundle has; `$...` are names and sizes of this model.
RUNTIMES = {
    "onnx": string.Template("""
## ONNX: servers, browsers, C++

Three graphs: `encoder_model.onnx` reads the source, $encode; `decoder_model.onnx` begins the target with the token
$start, and gives the keys and values of both; `decoder_with_past_model.onnx` continues it with one token more, takes
`past_key_values.i.decoder` and `.encoder`, float32 (B, $heads, past, $width), and gives the decoder's anew.
`decoder_model_merged.onnx` does the work of both decoders, for programs that look for it: with `use_cache_branch` false
it begins. The weights of all decoders lie once in `decoder_model_merged.onnx_data`; keep it beside them.

**Python, optimum**

    from optimum.onnxruntime import ORTModelForSeq2SeqLM
    model = ORTModelForSeq2SeqLM.from_pretrained("$folder")

$javascript
**C++**

    #include <onnxruntime_cxx_api.h>
    Ort::Env env;
    Ort::Session encoder(env, "onnx/encoder_model.onnx", Ort::SessionOptions{});
    // Call Run with the names above; feed each present.*.decoder.* back as past_key_values.*.decoder.*.
"""),
    "tflite": string.Template("""
## TFLite: phones and small devices

Signatures $buckets read a source, padded to the length in the name: `input_ids` and `attention_mask` int32 (1, S), 0 in
the mask hides padding. They give `context_k_i` and `context_v_i` for each layer i. `decode` takes these, one token
`tokens` int32 (1, 1), the first of them $start, its place `input_pos` int32 (1,) from 0, `encoder_attention_mask` int32
(1, $static), the source's with zeros behind, and `kv_cache_k_i`, `kv_cache_v_i` float32 (1, $static, $heads, $width),
zeros at first. It gives `logits` (1, 1, $vocabulary) and the caches for the next call.

**Android (Kotlin)**, `implementation("com.google.ai.edge.litert:litert:1.0.1")`

    val interpreter = Interpreter(File(filesDir, "model.tflite"), Interpreter.Options().setNumThreads(4))
    interpreter.runSignature(mapOf("input_ids" to arrayOf(ids), "attention_mask" to arrayOf(mask)), context, "$bucket")
    interpreter.runSignature(inputs, outputs, "decode")   // context, caches, token and place

**iOS (Swift)**, `pod 'TensorFlowLiteC'`: the signature runners are in the C interface

    let interpreter = TfLiteInterpreterCreate(TfLiteModelCreateFromFile(path), TfLiteInterpreterOptionsCreate())
    let encode = TfLiteInterpreterGetSignatureRunner(interpreter, "$bucket")
    let decode = TfLiteInterpreterGetSignatureRunner(interpreter, "decode")

**C++**

$tflite_cpp
    auto* encode = interpreter->GetSignatureRunner("$bucket");
    auto* decode = interpreter->GetSignatureRunner("decode");
"""),
    "savedmodel": string.Template("""
## SavedModel: TensorFlow and TensorFlow Serving

Signatures `serving_default` (source and target to `logits`), `encode` (the source to `encoder_hidden_states`),
`prefill` (those and the first target tokens to `logits`, caches and contexts) and `decode` (caches, contexts and the
next tokens to `logits` and caches). The first target token is $start.

    import tensorflow as tf
    model = tf.saved_model.load("saved_model/1")
    hidden = model.signatures["encode"](encoder_token_ids=ids, encoder_padding_mask=mask)["encoder_hidden_states"]

    tensorflow_model_server --model_name=$name --model_base_path="$$PWD/saved_model" --rest_api_port=8501
"""),
}
