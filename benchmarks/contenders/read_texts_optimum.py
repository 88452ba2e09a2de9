"""Reading texts with an encoder through Optimum: python read_texts_optimum.py none|int8 CHECKPOINT FOLDER SPEC

"int8" is its dynamic quantisation for processors with AVX-512 VNNI. What has to be converted goes into FOLDER.
"""
import json
import pathlib
import sys
import time

import numpy as np
import onnxruntime
from optimum.onnxruntime import ORTModelForSequenceClassification, ORTQuantizer
from optimum.onnxruntime.configuration import AutoQuantizationConfig
from serving import serve

variant, checkpoint, folder, spec = sys.argv[1], sys.argv[2], pathlib.Path(sys.argv[3]), json.loads(sys.argv[4])
settings = onnxruntime.SessionOptions()
settings.intra_op_num_threads = spec["threads"]
file = {"none": "model.onnx", "int8": "model_quantized.onnx"}[variant]
if not (folder / file).exists():
    plain = ORTModelForSequenceClassification.from_pretrained(checkpoint, export=True)
    plain.save_pretrained(folder)
    if variant == "int8":
        config = AutoQuantizationConfig.avx512_vnni(is_static=False, per_channel=False)
        ORTQuantizer.from_pretrained(plain).quantize(save_dir=folder, quantization_config=config)
model = ORTModelForSequenceClassification.from_pretrained(folder, file_name=file, session_options=settings)
token_ids = np.random.default_rng(0).integers(*spec["ids"], (spec["batch_size"], spec["length"]))
inputs = {"input_ids": token_ids, "attention_mask": np.ones_like(token_ids), "token_type_ids": np.zeros_like(token_ids)}


def measure():
    start = time.perf_counter()
    for _ in range(spec["calls"]):
        outputs = model(**inputs)
    return {"milliseconds": 1000 * (time.perf_counter() - start) / spec["calls"], "logits": outputs.logits.tolist()}


measure()
serve("peers", ["optimum-onnx", "onnxruntime"], measure)
