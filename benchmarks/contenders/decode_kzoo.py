"""The bundle's ONNX session."""
import sys

import decode

from kzoo.export import open_bundle

session = open_bundle(sys.argv[1], runtime="onnx", threads=2)
decode.report(lambda prompt: session.generate(prompt, max_new_tokens=decode.NEW, min_new_tokens=decode.NEW)[32:], "kzoo")
