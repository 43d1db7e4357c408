"""Model files: what goes in comes out, and nothing else comes out."""

from __future__ import annotations

import errno
import json
import random
import struct

import pytest
import safetensors.torch
import torch
from networks import make_model

import limbnet
from limbnet.decode.settings import DecoderSettings
from limbnet.errors import LimbnetError, ModelFileError
from limbnet.models.bodyposenet import build_from_architecture
from limbnet.models.checkpoint import load_model, save_model
from limbnet.models.info import ModelInfo
from limbnet.skeleton import BODY_18

INFO = ModelInfo(
    BODY_18,
    input_size=(288, 384),
    scales=(0.5, 1.0),
    decoder=DecoderSettings(heatmap_threshold=0.2),
    spec={"a": [1, None]},
)


def same_weights(first, second):
    first, second = first.state_dict(), second.state_dict()
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("key", [None, "nvidia_tlt"])
@pytest.mark.parametrize(
    ("architecture", "keys"),
    [("vgg", {"use_self_attention": True}), ("helnet", {"nlayers": 6, "full": True}), ("resnet", {"nlayers": 50})],
)
def test_round_trip(architecture, keys, key, hand, tmp_path):
    model = make_model(architecture, skeleton=hand, width=0.05, stages=2, **keys)
    save_model(tmp_path / "model.tlt", model, ModelInfo(hand, stride=model.stride), key=key)
    loaded = load_model(tmp_path / "model.tlt", key)
    assert same_weights(loaded.model, model)
    assert loaded.info.skeleton == hand
    assert loaded.info.version == limbnet.__version__
    assert loaded.training is None
    assert not loaded.model.training
    images = torch.randn(1, 3, 32, 32)
    assert torch.equal(loaded.model(images).pafs[-1], model(images).pafs[-1])


def test_info_comes_back(small, tmp_path):
    save_model(tmp_path / "m", small, INFO)
    info = load_model(tmp_path / "m", key="not needed, not minded").info
    assert info.to_dict() == INFO.to_dict() | {"version": limbnet.__version__}


def test_pruned_network_comes_back(small, tmp_path):
    described = small.architecture
    described["channels"]["block_2b_conv_1"] = 3
    pruned = build_from_architecture(described, BODY_18)
    save_model(tmp_path / "m", pruned, INFO)
    assert same_weights(load_model(tmp_path / "m").model, pruned)


def test_training_state_comes_back(small, tmp_path):
    optimiser = torch.optim.AdamW(small.parameters())
    sum(small(torch.randn(1, 3, 16, 16)).pafs[-1].flatten()).backward()
    optimiser.step()
    shared = torch.arange(6.0)
    state = {
        "optimiser": optimiser.state_dict(),
        "random": {"torch": torch.get_rng_state(), "python": random.getstate()},
        "step": 12,
        "best": float("-inf"),
        "nested": [1, (2.5, None, True), {"text": "ü", 3: torch.tensor(4)}],
        "slices": {"part": shared[2:4], "whole": shared, "turned": shared.view(2, 3).T, "again": shared},
        "half": torch.ones(2, dtype=torch.bfloat16),
    }
    save_model(tmp_path / "m", small, INFO, training=state)
    found = load_model(tmp_path / "m").training
    assert found.keys() == state.keys()
    assert found["random"]["python"] == random.getstate() == state["random"]["python"]
    assert found["nested"][:2] == state["nested"][:2]
    assert found["nested"][2][3] == torch.tensor(4)
    assert (found["step"], found["best"]) == (12, float("-inf"))
    assert all(torch.equal(found["slices"][name], state["slices"][name]) for name in state["slices"])
    assert found["half"].dtype == torch.bfloat16
    fresh = torch.optim.AdamW(small.parameters())
    fresh.load_state_dict(found["optimiser"])
    for number, values in optimiser.state_dict()["state"].items():
        assert torch.equal(fresh.state_dict()["state"][number]["exp_avg"], values["exp_avg"])


def test_training_state_of_a_strange_type_is_a_programming_mistake(small, tmp_path):
    with pytest.raises(TypeError, match="training/when is a object"):
        save_model(tmp_path / "m", small, INFO, training={"when": object()})
    assert not list(tmp_path.iterdir())


def test_same_content_gives_the_same_bytes(small, tmp_path):
    state = {"momentum": {str(number): torch.ones(number) for number in range(20)}}
    for name in "ab":
        save_model(tmp_path / name, small, INFO, training=state)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    again = load_model(tmp_path / "a")
    save_model(tmp_path / "c", again.model, again.info, training=again.training)
    assert (tmp_path / "c").read_bytes() == (tmp_path / "a").read_bytes()


def test_any_safetensors_reader_gets_the_weights(small, tmp_path):
    save_model(tmp_path / "m", small, INFO, training={"x": torch.ones(1)})
    tensors = safetensors.torch.load_file(tmp_path / "m")
    assert torch.equal(tensors["stage2/conv1.weight"], small["stage2/conv1"].weight)
    assert tensors.keys() == small.state_dict().keys() | {"training/x"}


def test_kernels_in_half_precision(small, tmp_path):
    save_model(tmp_path / "full", small, INFO)
    save_model(tmp_path / "half", small, INFO, dtype=torch.float16)
    assert (tmp_path / "half").stat().st_size < 0.65 * (tmp_path / "full").stat().st_size
    loaded = load_model(tmp_path / "half").model
    for name, tensor in small.state_dict().items():
        expected = tensor.half().float() if tensor.ndim == 4 else tensor
        assert torch.equal(loaded.state_dict()[name], expected)
    small["stage2/conv1"].weight.data[0, 0, 0, 0] = 1e6
    with pytest.raises(ModelFileError, match=r"stage2/conv1.weight.*too large"):
        save_model(tmp_path / "half", small, INFO, dtype=torch.float16)


def test_changed_bytes_are_found_wherever_they_are(small, tmp_path):
    save_model(tmp_path / "m", small, INFO)
    whole = (tmp_path / "m").read_bytes()
    (header,) = struct.unpack("<Q", whole[:8])
    chance = random.Random(5)
    places = [
        *range(8),
        *(chance.randrange(8 + header) for _ in range(300)),
        8 + header - 1,
        8 + header,
        len(whole) - 1,
    ]
    places += [chance.randrange(len(whole)) for _ in range(60)]
    for place in places:
        damaged = bytearray(whole)
        damaged[place] ^= 1 << chance.randrange(8)
        (tmp_path / "damaged").write_bytes(damaged)
        with pytest.raises(ModelFileError):
            load_model(tmp_path / "damaged")


def test_files_cut_short_or_grown_are_found(small, tmp_path):
    save_model(tmp_path / "m", small, INFO)
    whole = (tmp_path / "m").read_bytes()
    (header,) = struct.unpack("<Q", whole[:8])
    for length in (9, 60, 8 + header // 2, 8 + header, len(whole) // 2, len(whole) - 1):
        (tmp_path / "cut").write_bytes(whole[:length])
        with pytest.raises(ModelFileError):
            load_model(tmp_path / "cut")
    (tmp_path / "cut").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ModelFileError, match=r"'.*cut' is damaged or cut short") as caught:
        load_model(tmp_path / "cut")
    assert "earlier checkpoint" in caught.value.todo
    (tmp_path / "grown").write_bytes(whole + b"\0")
    with pytest.raises(ModelFileError, match="damaged"):
        load_model(tmp_path / "grown")


def test_keys(small, tmp_path):
    save_model(tmp_path / "m", small, INFO, key="right")
    for key, words in (("wrong", "key does not open"), (None, "is encrypted"), ("", "is encrypted")):
        with pytest.raises(ModelFileError, match=words) as caught:
            load_model(tmp_path / "m", key)
        assert str(tmp_path / "m") in str(caught.value)
    with pytest.raises(ModelFileError, match="key is empty"):
        save_model(tmp_path / "m", small, INFO, key="")
    load_model(tmp_path / "m", "right")


def forged(path, change):
    """Change a file's JSON and make its digest right again."""
    import hashlib

    whole = path.read_bytes()
    (length,) = struct.unpack("<Q", whole[:8])
    header = json.loads(whole[8 : 8 + length])
    content = json.loads(header["__metadata__"]["limbnet"])
    change(content)
    content["sha256"] = "0" * 64
    header["__metadata__"]["limbnet"] = json.dumps(content)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    blank = struct.pack("<Q", len(text)) + text + whole[8 + length :]
    path.write_bytes(blank.replace(b"0" * 64, hashlib.sha256(blank).hexdigest().encode(), 1))


def test_newer_and_incomplete_files(small, tmp_path):
    for change, words in (
        (lambda content: content.update(format=2), "newer limbnet"),
        (lambda content: content.pop("info"), "lacks something"),
        (
            lambda content: content["architecture"].update(stages=3),
            "lacks the width of layer 'stage2/heat_branch/out'|lacks",
        ),
        (
            lambda content: content["architecture"]["channels"].update({"stage2/conv1": 9}),
            "do not fit its architecture",
        ),
    ):
        save_model(tmp_path / "m", small, INFO)
        forged(tmp_path / "m", change)
        with pytest.raises(ModelFileError, match=words):
            load_model(tmp_path / "m")
    save_model(tmp_path / "m", small, INFO)
    forged(tmp_path / "m", lambda content: None)
    assert same_weights(load_model(tmp_path / "m").model, small)


def test_files_of_other_kinds_are_named(tmp_path):
    torch.save({"a": torch.ones(1)}, tmp_path / "a.pth")
    (tmp_path / "b.tlt").write_text("model: none")
    (tmp_path / "c.tlt").write_bytes(b"")
    for name, words in (("a.pth", "PyTorch file.*pretrained_weights"), ("b.tlt", "a text file"), ("c.tlt", "is empty")):
        with pytest.raises(ModelFileError, match=f"(?s){words}"):
            load_model(tmp_path / name)
    with pytest.raises(ModelFileError, match="There is no file"):
        load_model(tmp_path / "missing.tlt")


def test_a_full_disk_leaves_the_earlier_file(small, tmp_path, monkeypatch):
    save_model(tmp_path / "m", small, INFO)
    before = (tmp_path / "m").read_bytes()

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(LimbnetError, match="disk is full"):
        save_model(tmp_path / "m", make_model(width=0.05, stages=3), INFO)
    assert (tmp_path / "m").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


def test_older_files_know_one_scale() -> None:
    content = INFO.to_dict()
    assert ModelInfo.from_dict(content) == INFO
    del content["scales"]
    assert ModelInfo.from_dict(content).scales == (1.0,)
