"""Opening model files by content, and the torch engine."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import limbnet
from limbnet.errors import DeviceError, ModelFileError, SpecError, UsageError
from limbnet.models.checkpoint import load_model, save_model
from limbnet.runtime.engine import Engine, Maps
from limbnet.runtime.load import load_engine
from limbnet.runtime.torch_engine import TorchEngine

IMAGES = np.random.default_rng(0).integers(0, 256, (2, 64, 48, 3), np.uint8)


def maps_of(engine: Engine) -> Maps:
    output = engine.run(IMAGES)
    assert isinstance(output, Maps)
    return output


@pytest.mark.parametrize("order", ["rgb", "bgr"])
@pytest.mark.parametrize("stage", [None, 1, 2])
def test_the_engine_normalises_and_returns_the_stage_that_was_asked_for(
    tiny_model: Path, order: str, stage: int | None
) -> None:
    loaded = load_model(tiny_model)
    info = loaded.info.__class__.from_dict(
        loaded.info.to_dict()
        | {"colour_order": order, "image_scale": [255.0, 128.0, 64.0], "image_offset": [0.5, 0.25, 0.0]}
    )
    pixels = torch.from_numpy(IMAGES[..., :: 1 if order == "rgb" else -1].astype(np.float32))
    values = pixels / torch.tensor([255.0, 128.0, 64.0]) - torch.tensor([0.5, 0.25, 0.0])
    with torch.no_grad():
        stages = loaded.model(values.permute(0, 3, 1, 2).contiguous())
    maps = maps_of(TorchEngine(loaded.model, info, "cpu", stage))
    expected = (stage or 2) - 1
    assert maps.heatmaps.shape == (2, 19, 8, 6)
    assert maps.pafs.shape == (2, 38, 8, 6)
    np.testing.assert_allclose(maps.heatmaps, stages.heatmaps[expected].numpy(), atol=1e-5)
    np.testing.assert_allclose(maps.pafs, stages.pafs[expected].numpy(), atol=1e-5)
    assert not torch.allclose(stages.pafs[0], stages.pafs[1], atol=1e-3)


def test_an_engine_keeps_its_protocol(tiny_model: Path) -> None:
    engine = load_engine(tiny_model, device="cpu")
    assert isinstance(engine, Engine)
    assert (engine.name, engine.device, engine.fixed_size, engine.max_batch) == ("torch fp32", "cpu", None, None)
    assert engine.info.skeleton.name == "bpnet_18_joints"


def test_suffixes_do_not_matter_and_keys_open(tiny_model: Path, tmp_path: Path) -> None:
    loaded = load_model(tiny_model)
    expected = maps_of(load_engine(tiny_model, device="cpu")).heatmaps
    save_model(tmp_path / "model.engine", loaded.model, loaded.info, key="secret")
    sealed = load_engine(tmp_path / "model.engine", key="secret", device="cpu")
    np.testing.assert_array_equal(maps_of(sealed).heatmaps, expected)
    for key in (None, "wrong"):
        with pytest.raises(ModelFileError, match="key"):
            load_engine(tmp_path / "model.engine", key=key, device="cpu")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "empty"),
        (b"{}", "text file"),
        (b"\x89HDF\r\n\x1a\n" + bytes(100), "Keras(.|\n)*pretrained_weights"),
        (bytes(range(256)) * 8, "NVIDIA's encrypted files cannot be read"),
    ],
)
def test_files_that_are_no_network_are_refused_with_advice(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "model.tlt").write_bytes(content)
    with pytest.raises(ModelFileError, match=words):
        load_engine(tmp_path / "model.tlt")


def test_a_missing_file_runtime_stage_and_device_are_refused(tiny_model: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=r"nothing\.tlt"):
        limbnet.load(tmp_path / "nothing.tlt")
    with pytest.raises(UsageError, match="Did you mean 'torch'"):
        limbnet.load(tiny_model, engine="torhc")
    with pytest.raises(SpecError, match="has 2 stages"):
        limbnet.load(tiny_model, device="cpu", output_stage=3)
    if not torch.cuda.is_available():
        with pytest.raises(DeviceError, match="GPU"):
            limbnet.load(tiny_model, device="cuda")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_gpu_says_what_the_cpu_says(tiny_model: Path) -> None:
    gpu = load_engine(tiny_model, device="cuda")
    assert gpu.preferred_batch > 1
    np.testing.assert_allclose(
        maps_of(gpu).heatmaps, maps_of(load_engine(tiny_model, device="cpu")).heatmaps, atol=1e-3
    )
