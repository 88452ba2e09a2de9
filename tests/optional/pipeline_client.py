"""Answer texts with transformers' pipelines, from folders that we saved. The test beside it runs this.

    python pipeline_client.py FOLDER...    # each called after its task, with texts.json; adds answers.json
"""
import json
import pathlib
import sys

import transformers

OPTIONS = {"text-classification": {"top_k": None}, "token-classification": {"aggregation_strategy": "first"},
           "fill-mask": {"top_k": 5},
           "question-answering": {"align_to_words": False, "max_answer_len": 30}}


if __name__ == "__main__":
    for folder in map(pathlib.Path, sys.argv[1:]):
        task = folder.name
        texts = json.loads((folder / "texts.json").read_text())
        try:
            pipeline = transformers.pipeline(task, model=str(folder), device="cpu")
        except KeyError:  # version 5 has no question answering any more
            (folder / "answers.json").write_text("null")
            continue
        answers = [pipeline(**text, **OPTIONS[task]) if isinstance(text, dict) else pipeline(text, **OPTIONS[task])
                   for text in texts]
        (folder / "answers.json").write_text(json.dumps(answers, default=float))
