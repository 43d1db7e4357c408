"""Charts and tables of a profile made by hand."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from limbnet.benchmark.charts import draw_charts
from limbnet.benchmark.profile import DecodeTime, Profile, ProfileSettings
from limbnet.benchmark.report import tables
from limbnet.benchmark.rows import STAGES, Case, Row
from limbnet.benchmark.timing import Percentiles


def by_hand(stages: tuple[int | None, ...], ap: bool) -> Profile:
    """Two sizes and as many refinement stages, and rows that could not run."""
    rows = []
    for size in ((64, 96), (96, 128)):
        for stage in stages:
            case = Case("model.tlt", Path("model.tlt"), None, size, 1, stage)
            times = {name: Percentiles(10.0, 12.0, 13.0, 9) for name in STAGES}
            accuracy = {"all": 0.5, "medium": 0.4, "large": -1.0} if ap else {}
            rows.append(Row(case, "torch", "fp32", "cpu", "torch", 2, 0.1, times, 99.0, 8, accuracy))
        rows.append(Row(Case("other.onnx", Path("other.onnx"), "torch", size, 1), reason="no checkpoint"))
    decoding = [DecodeTime("stick", 8, (64, 96), people, people, Percentiles(1.0, 2.0, 3.0, 9)) for people in (1, 5)]
    return Profile(ProfileSettings(), "1 picture", rows, decoding)


def test_each_chart_is_drawn_when_there_is_something_to_draw(tmp_path: Path) -> None:
    paths = draw_charts(tmp_path / "plain", by_hand((None,), ap=False))
    assert [path.name for path in paths] == ["resolution.png", "resolution.svg", "people.png", "people.svg"]
    staged = draw_charts(tmp_path / "staged", by_hand((1, 2), ap=True))
    assert [path.stem for path in staged[::2]] == ["resolution", "refinement", "people"]
    with Image.open(paths[0]) as one, Image.open(staged[0]) as two:
        assert two.width == 2 * one.width  # AP has a panel of its own
    assert "AP-medium" in (tmp_path / "staged" / "resolution.svg").read_text()


def test_the_same_profile_gives_the_same_bytes(tmp_path: Path) -> None:
    for first, second in zip(
        draw_charts(tmp_path / "a", by_hand((1, 2), ap=True)),
        draw_charts(tmp_path / "b", by_hand((1, 2), ap=True)),
        strict=True,
    ):
        assert first.read_bytes() == second.read_bytes()


def test_tables_hold_what_was_measured() -> None:
    overview, stages, decoding, failures = tables(by_hand((None,), ap=True))
    assert overview.cells[0] == (
        "model.tlt", "torch", "fp32", "64x96", "1", "10.00", "10.00", "100", "99.0", "0.500", "0.400", "none labelled",
    )  # fmt: skip
    assert len(stages.cells) == 2 * len(STAGES)
    assert stages.cells[1] == ("", "", "", "", "", "fit", "10.00", "12.00", "13.00", "100")
    assert decoding.cells[1] == ("stick, stride 8", "64x96", "5", "5", "1.00", "2.00", "3.00")
    assert failures.cells == [("other.onnx", "torch", "64x96, 96x128", "1", "no checkpoint")]
    assert len(tables(by_hand((None,), ap=False))[0].columns) == 9
    page = overview.markdown().splitlines()
    assert page[0] == "## Overview"
    assert page[3].count("---") == len(overview.columns)
