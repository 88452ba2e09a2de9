"""The report: everything in one page, nothing from a network, nothing that is not escaped."""
import html.parser
import re

import pytest

from kzoo.export import read_bundle, render_report

VOID = {"meta"}


@pytest.fixture
def manifest(exported):
    return read_bundle(exported[0]).manifest


class Balance(html.parser.HTMLParser):
    def __init__(self):
        super().__init__()
        self.open, self.faults = [], []

    def handle_starttag(self, tag, attributes):
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        pass

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.faults.append(tag)


def test_the_page_of_an_export_is_whole(exported):
    page = (exported[0] / "report.html").read_text(encoding="utf-8")
    balance = Balance()
    balance.feed(page)
    assert balance.open == [] and balance.faults == []
    for text in ("every artifact verified", "SavedModel", "ONNX", "TFLite", "Sizes", "Speed", "Parity", "Training",
                 "Time to open", "Memory; shorter is better", "Operators", "FULLY_CONNECTED", "left by XNNPACK",
                 "validation: 4.500 at the end", "&lt;fox&gt;", "prefers-color-scheme: dark", 'name="viewport"'):
        assert text in page, text
    assert "<fox>" not in page


def test_nothing_is_fetched(exported):
    page = (exported[0] / "report.html").read_text(encoding="utf-8")
    assert not re.search(r"https?://|src=|<link|@import|url\(|<script", page)
    assert re.search(r"https?://", page + "http://a")  # the pattern would see one


def test_sections_without_data_are_left_out(manifest):
    page = render_report(manifest)
    assert "<h2>Training" not in page and "<h2>Samples" not in page
    assert "<h2>Training" in render_report(manifest, history=[{"step": 1, "loss": 2.0}, {"step": 2, "loss": 1.0}])
    assert "<h2>Training" not in render_report(manifest, history=[{"step": 1, "loss": float("nan")}])


def test_a_failure_is_seen_at_once(manifest):
    artifact = dict(manifest["artifacts"][0], verified=False)
    row = {"artifact": "x", "check": "logits", "value": 3.0, "limit": 1e-4, "passed": False, "note": "a < b"}
    artifact["verification"] = {"passed": False, "rows": [row]}
    page = render_report({**manifest, "artifacts": [artifact]})
    assert "failed verification" in page and "1 of 1 checks failed" in page and "<details open>" in page
    assert "a &lt; b" in page and "every artifact verified" not in page


def test_equal_samples_are_one(manifest):
    samples = [{"prompt": "a", "text": "a b", "source": source} for source in ("onnx", "tflite")]
    assert "Every runtime wrote the same" in render_report(manifest, samples=samples)
    samples[1]["text"] = "a c"
    assert "Every runtime wrote the same" not in render_report(manifest, samples=samples)
