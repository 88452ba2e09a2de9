"""The worker's own measurements; its commands are tested through the export."""
import json

import numpy as np

from kzoo.export import worker


def test_peak_memory_counts_what_was_touched():
    before = worker.peak_memory()
    block = np.ones(before // 8)  # as much again as was ever used at once, in bytes
    assert worker.peak_memory() > block.nbytes + before // 4


def test_an_error_is_written_as_a_result(tmp_path, capsys):
    spec = tmp_path / "spec.json"
    spec.write_text(json.dumps({"command": "convert", "format": "onxx", "run": str(tmp_path),
                                "result": str(tmp_path / "result.json")}))
    assert worker.main([str(spec)]) == 0
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["error"]["type"] == "ValueError" and "Did you mean 'onnx'" in result["error"]["message"]
    assert result["seconds"] >= 0 and "Traceback" in capsys.readouterr().err
