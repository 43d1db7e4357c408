"""The manuals' whole chain, as `scripts/chain.py` runs it for the demonstration."""

from __future__ import annotations

import json
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import pytest

from limbnet.models.checkpoint import load_model


@pytest.fixture
def chain(root: Path) -> ModuleType:
    spec = spec_from_file_location("chain", root / "scripts/chain.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    sys.modules["chain"] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_every_command_of_the_chain_takes_what_the_one_before_it_wrote(
    chain: ModuleType, model_file: Path, train_file: Path, dataset_file: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    out = tmp_path / "chain"
    words = ["-o", str(out), "-e", str(train_file), "-d", str(dataset_file), "--threads", "1"]
    rows = chain.main([*words, "--model", str(model_file), "--threshold", "0.3", "--calibration_pictures", "2"])
    assert [(row.stage, row.precision, row.engine) for row in rows] == [
        ("trained", "fp32", "torch fp32"),
        ("pruned", "fp32", "torch fp32"),
        ("retrained", "fp32", "torch fp32"),
        ("exported", "fp32", "onnxruntime fp32"),
        ("exported", "fp16", "onnxruntime fp16"),
        ("exported", "int8", "onnxruntime int8"),
        ("converted", "fp32", "openvino fp32"),
        ("converted", "int8", "openvino int8"),
    ]
    trained, pruned, retrained, fp32, fp16, int8, _, _ = rows
    assert retrained.parameters == pruned.parameters < trained.parameters
    assert int8.size < fp16.size < fp32.size
    assert all(row.latency > 0 and 0 <= row.ap <= 1 for row in rows)
    before, after = load_model(pruned.file).model, load_model(retrained.file).model
    assert before.architecture == after.architecture
    assert not before["heatmap_out"].bias.equal(after["heatmap_out"].bias)
    written = json.loads((out / "chain.json").read_text())
    assert [row["latency"] for row in written] == [row.latency for row in rows]
    assert len(json.loads((out / "inference/detections.json").read_text())["images"]) == 28
    assert "stage      precision  engine" in capsys.readouterr().out
    with pytest.raises(SystemExit):  # nothing of an earlier chain is mixed in
        chain.main(words)
