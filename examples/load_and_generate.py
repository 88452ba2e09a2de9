"""Continue a text with a trained model: live in Keras, then with the exported files and without TensorFlow.

    python examples/train_and_export.py      # makes the run and the bundle
    python examples/load_and_generate.py
"""
import pathlib
import sys

import kzoo

OUT = pathlib.Path("out")
PROMPT = "    def "
NEW_TOKENS = 80

for name in ("writer", "writer-bundle"):
    if not (OUT / name).is_dir():
        sys.exit(f"{OUT / name} is missing. Run examples/train_and_export.py here first: it makes the files.")

model = kzoo.load(OUT / "writer")

print("--- drawn from the model's probabilities, printed as it comes")
model.generate(PROMPT, max_new_tokens=NEW_TOKENS, do_sample=True, temperature=0.8, top_k=20, seed=1,
               stream=lambda piece: print(piece, end="", flush=True))
print()

print("--- the likeliest continuation, and two more by beam search")
print(model.generate(PROMPT, max_new_tokens=NEW_TOKENS))
for text in model.generate(["class ", "    return "], max_new_tokens=NEW_TOKENS, num_beams=3):
    print(text)

# The same loop drives every exported file, so the likeliest continuation is the same.
for runtime in ("onnx", "tflite"):
    session = kzoo.open_bundle(OUT / "writer-bundle", runtime=runtime)
    same = session.generate(PROMPT, max_new_tokens=NEW_TOKENS) == model.generate(PROMPT, max_new_tokens=NEW_TOKENS)
    print(f"--- {runtime}: {'the same continuation' if same else 'ANOTHER CONTINUATION'}")
