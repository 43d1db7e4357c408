"""`limbnet zoo` from the command line."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from limbnet.cli import main
from limbnet.models.zoo import CATALOGUE, create_model


def test_list_shows_every_network(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["zoo", "list"]) == 0
    text = capsys.readouterr().out
    lines = text.splitlines()
    for name, entry in CATALOGUE.items():
        line = next(line for line in lines if line.split()[0] == name)
        assert f"{entry.parameters:,}" in line
        assert entry.licence in line
        assert entry.files[0] in line
    assert "75.6" in next(line for line in lines if line.startswith("darkpose_hrnet_w32"))


def test_list_as_json_has_everything(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["zoo", "list", "--json"]) == 0
    entries = json.loads(capsys.readouterr().out)
    assert [entry["name"] for entry in entries] == list(CATALOGUE)
    assert entries[0]["published"] == {
        "ap": 74.4,
        "ap_true_boxes": 76.5,
        "ap_multi_scale": None,
        "gflops": 7.1,
        "convention": "1024^3",
        "note": "",
    }


def test_list_does_not_wait_for_torch() -> None:
    code = "import sys; from limbnet.cli import main; main(['zoo', 'list']); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_check_reports_a_file_that_fits(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "final.pth"
    torch.save({"state_dict": create_model("dekr_rescore_coco").state_dict()}, path)
    assert main(["zoo", "check", "dekr_rescore_coco", str(path)]) == 0
    text = capsys.readouterr().out
    assert "PyTorch, under 'state_dict'" in text
    assert "every name and shape fits" in text
    assert main(["zoo", "check", "dekr_rescore_coco", str(path), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["fits"] is True
    assert report["sha256"] in text


def test_check_lists_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "final.pth"
    torch.save(create_model("litehrnet_18_256x192").state_dict(), path)
    assert main(["zoo", "check", "dekr_rescore_coco", str(path)]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "6 missing: l1.weight" in captured.err
    assert "The file belongs to litehrnet_18_256x192." in captured.err
    assert main(["zoo", "check", "dekr_rescore_coco", str(path), "--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert len(report["missing"]) == 6
    assert len(report["unexpected"]) == 1418


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["check"], "needs the name of a network and a file"),
        (["check", "hrnet_w32_256x192"], "needs the name of a network and a file"),
        (["check", "hrnet_w32_256x193", "x.pth"], "Did you mean 'hrnet_w32_256x192'?"),
        (["list", "hrnet_w32_256x192"], "takes no name"),
        (["show"], "list"),
    ],
)
def test_wrong_command_lines(words: list[str], expected: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["zoo", *words]) == 2
    assert expected in capsys.readouterr().err


def test_check_of_an_absent_file(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["zoo", "check", "hrnet_w32_256x192", "absent.pth"]) == 1
    assert "Cannot read 'absent.pth'" in capsys.readouterr().err
