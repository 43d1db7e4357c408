"""Training records: what is written is read, what TensorFlow wrote is read, and damage is noticed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from limbnet.data.records import Record, decode_record, encode_record, read_messages, read_records, write_messages
from limbnet.errors import DataError


def record(people: int = 3, joints: int = 17, confidence: bool = False, seed: int = 0) -> Record:
    rng = np.random.default_rng(seed)
    return Record(
        image_id=9_000_000_001 + seed,
        height=480,
        width=641,
        image_path="train2017/ä.jpg",
        mask_path="masks/ä.png",
        dataset="coco",
        joints=rng.normal(size=(people, joints, 3)),
        scales=rng.normal(size=people),
        centres=rng.normal(size=(people, 2)),
        person_idx=5,
        confidence=rng.random((people, joints)) if confidence else None,
    )


def same(first: Record, second: Record) -> bool:
    return all(
        np.array_equal(getattr(first, name), getattr(second, name))
        if name != "confidence" or getattr(first, name) is not None
        else getattr(second, name) is None
        for name in Record.__dataclass_fields__
    )


@settings(max_examples=30, deadline=None)
@given(people=st.integers(1, 12), joints=st.integers(1, 40), confidence=st.booleans(), seed=st.integers(0, 99))
def test_round_trip(people: int, joints: int, confidence: bool, seed: int) -> None:
    written = record(people, joints, confidence, seed)
    assert same(decode_record(encode_record(written)), written)
    assert encode_record(written) == encode_record(written)


def test_features_have_the_names_and_types_of_the_original() -> None:
    """Read by hand from the wire format: names in order, numbers as int64 lists, everything else as bytes."""
    message = encode_record(record(2))
    for name in (b"frame/image_id", b"person/num_other_people", b"person/centers", b"frame/mask_path", b"dataset"):
        assert name in message
    assert b"keypoint_confidence" not in message
    assert record(2).joints.astype("<f8").tobytes() in message
    assert b"keypoint_confidence" in encode_record(record(2, confidence=True))


def test_file_that_tensorflow_wrote(root: Path) -> None:
    found = list(read_records(root / "tests/fixtures/records/written_by_tensorflow-fold-000-of-001"))
    assert [item.image_id for item in found] == [7, 8]
    assert found[1].image_path == "train2017/1.jpg"
    assert found[1].mask_path == "train_mask2017/1.jpg"
    expected = (np.arange(102, dtype=np.float64) + 1).reshape(2, 17, 3)
    expected[..., 2] = 2
    np.testing.assert_array_equal(found[1].joints, expected)
    np.testing.assert_array_equal(found[0].scales, [100.5, 50])
    np.testing.assert_array_equal(found[0].centres, [[1, 2], [3, 4]])
    assert found[0].confidence is None


def test_frames_are_those_of_tensorflow(root: Path, tmp_path: Path) -> None:
    """Writing the messages of TensorFlow's file again gives its bytes, checksums included."""
    original = root / "tests/fixtures/records/written_by_tensorflow-fold-000-of-001"
    assert write_messages(tmp_path / "copy", read_messages(original)) == 2
    assert (tmp_path / "copy").read_bytes() == original.read_bytes()


@pytest.fixture
def three(tmp_path: Path) -> Path:
    path = tmp_path / "train-fold-000-of-001"
    write_messages(path, (encode_record(record(seed=n)) for n in range(3)))
    return path


def test_missing_records(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        list(read_records(tmp_path / "none"))


def test_file_that_is_no_tfrecord(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("this is a text file, and not a short one")
    with pytest.raises(DataError, match="is no TFRecord file"):
        list(read_records(tmp_path / "text"))


@pytest.mark.parametrize("cut", [1, 5, 200, 700])
def test_records_cut_short(three: Path, cut: int) -> None:
    three.write_bytes(three.read_bytes()[:-cut])
    with pytest.raises(DataError, match="is cut short in record 2"):
        list(read_records(three))


def test_every_flipped_byte_is_noticed(three: Path) -> None:
    content = three.read_bytes()
    for place in [0, 3, 7, 8, 11, 12, 500, len(content) // 2, len(content) - 1]:
        damaged = bytearray(content)
        damaged[place] ^= 0x10
        three.write_bytes(damaged)
        with pytest.raises(DataError, match=r"damaged|cut short|no TFRecord"):
            list(read_records(three))


def test_message_that_is_no_example(tmp_path: Path) -> None:
    write_messages(tmp_path / "odd", [encode_record(record()), b"\xff\xff\xff"])
    with pytest.raises(DataError, match=r"Record 1 of '.*odd' is no tf\.train\.Example"):
        list(read_records(tmp_path / "odd"))


def test_message_without_its_features(tmp_path: Path) -> None:
    write_messages(tmp_path / "empty", [b""])
    with pytest.raises(DataError, match=r"Record 0 of '.*empty' has no feature 'person/scales'"):
        list(read_records(tmp_path / "empty"))


def test_numbers_that_do_not_fit_together() -> None:
    whole = record(2)
    broken = Record(**{**whole.__dict__, "scales": whole.scales[:1], "joints": whole.joints[:, :16][:1, :5]})
    with pytest.raises(ValueError, match="has 1 scales, 4 numbers of centers"):
        decode_record(encode_record(broken))


def test_a_failing_write_leaves_the_earlier_file(three: Path) -> None:
    before = three.read_bytes()

    def failing() -> object:
        yield encode_record(record())
        raise RuntimeError("power cut")

    with pytest.raises(RuntimeError):
        write_messages(three, failing())  # type: ignore[arg-type]
    assert three.read_bytes() == before
    assert [path.name for path in three.parent.iterdir()] == [three.name]
