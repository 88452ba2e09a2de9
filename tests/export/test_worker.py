"""The worker's own part; its commands are tested through the export."""
import json

from kzoo.export import worker


def test_an_error_is_written_as_a_result(tmp_path, capsys):
    spec = tmp_path / "spec.json"
    spec.write_text(json.dumps({"command": "convert", "format": "onxx", "run": str(tmp_path),
                                "result": str(tmp_path / "result.json")}))
    assert worker.main([str(spec)]) == 0
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["error"]["type"] == "ValueError" and "Did you mean 'onnx'" in result["error"]["message"]
    assert result["seconds"] >= 0 and "Traceback" in capsys.readouterr().err
