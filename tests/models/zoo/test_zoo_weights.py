"""Weight files: every container, every prefix, and every way to be wrong."""

from __future__ import annotations

import hashlib
import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from limbnet.errors import ModelFileError
from limbnet.models.zoo import CATALOGUE, create_model
from limbnet.models.zoo.weights import compare_weights, load_weights

SMALL = "dekr_rescore_coco"


def loaded(path: Path, name: str = SMALL) -> tuple[dict[str, Tensor], Any]:
    network = create_model(name, seed=99)
    report = load_weights(network, CATALOGUE[name], path)
    return network.state_dict(), report


def saved(tmp_path: Path, content: Any, **options: Any) -> Path:
    path = tmp_path / "weights.pth"
    torch.save(content, path, **options)
    return path


def failure(path: Path, name: str = SMALL) -> str:
    with pytest.raises(ModelFileError) as caught:
        loaded(path, name)
    return str(caught.value)


@pytest.fixture
def state() -> dict[str, Tensor]:
    return dict(create_model(SMALL, seed=1).state_dict())


@pytest.mark.parametrize("container", ["", "state_dict", "best_state_dict", "model"])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_containers_and_prefixes(tmp_path: Path, state: dict[str, Tensor], container: str, prefix: str) -> None:
    named = OrderedDict((prefix + name, tensor) for name, tensor in state.items())
    path = saved(tmp_path, {"epoch": 3, container: named} if container else named)
    found, report = loaded(path)
    assert all(torch.equal(found[name], state[name]) for name in state)
    assert (report.container, report.prefix, report.tensors) == (container, prefix, 6)
    assert report.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_training_checkpoint_of_hrnet(tmp_path: Path, state: dict[str, Tensor]) -> None:
    """It keeps a NumPy score, the optimiser, and the weights twice."""
    content = {
        "epoch": 210,
        "perf": np.float64(0.744),
        "state_dict": {f"module.{name}": tensor for name, tensor in state.items()},
        "best_state_dict": state,
        "optimizer": {"state": {0: {"exp_avg": torch.zeros(2)}}, "param_groups": [{"lr": 1e-3}]},
    }
    found, report = loaded(saved(tmp_path, content))
    assert all(torch.equal(found[name], state[name]) for name in state)
    assert (report.container, report.prefix) == ("state_dict", "module.")


def test_mmcv_container(tmp_path: Path) -> None:
    name = "litehrnet_18_256x192"
    state = create_model(name, seed=1).state_dict()
    meta = {"mmpose_version": "0.13.0", "config": "model = dict()", "time": "now", "epoch": 210, "iter": 1}
    found, report = loaded(saved(tmp_path, {"meta": meta, "state_dict": state, "optimizer": {"state": {}}}), name)
    assert all(torch.equal(found[key], state[key]) for key in state)
    assert report.belongs_to == (name,)


def test_file_of_an_old_torch(tmp_path: Path, state: dict[str, Tensor]) -> None:
    found, _ = loaded(saved(tmp_path, state, _use_new_zipfile_serialization=False))
    assert all(torch.equal(found[name], state[name]) for name in state)


def test_step_counters_may_be_absent_and_half_precision_is_read(tmp_path: Path) -> None:
    name = "naive_litehrnet_18_256x192"
    state = create_model(name, seed=1).state_dict()
    kept = {key: tensor.half() for key, tensor in state.items() if not key.endswith("num_batches_tracked")}
    found, report = loaded(saved(tmp_path, kept), name)
    assert report.missing == ()
    assert all(torch.equal(found[key], tensor.float()) for key, tensor in kept.items())


def test_higherhrnet_trained_in_fp16_has_its_own_prefix(tmp_path: Path) -> None:
    name = "higherhrnet_w32_512"
    state = {f"module.1.{key}": tensor for key, tensor in create_model(name, device="meta").state_dict().items()}
    path = saved(tmp_path, {key: torch.zeros(tensor.shape, dtype=tensor.dtype) for key, tensor in state.items()})
    report, _ = compare_weights(create_model(name, device="meta"), CATALOGUE[name], path)
    assert (report.fits, report.prefix) == (True, "module.1.")


def test_pytorch_port_of_openpose_puts_groups_before_its_names(tmp_path: Path) -> None:
    name = "openpose_coco"
    network = create_model(name, device="meta")
    state = {
        f"model{1 + number % 6}_{number % 2 + 1}.{key}": torch.zeros(1).expand(tensor.shape)
        for number, (key, tensor) in enumerate(network.state_dict().items())
    }
    report, _ = compare_weights(network, CATALOGUE[name], saved(tmp_path, state))
    assert report.fits


def test_safetensors(tmp_path: Path, state: dict[str, Tensor]) -> None:
    path = tmp_path / "weights.safetensors"
    save_file(state, path)
    found, report = loaded(path)
    assert report.kind == "safetensors"
    assert all(torch.equal(found[name], state[name]) for name in state)


def test_missing_unexpected_and_misshapen_names_are_all_listed(tmp_path: Path, state: dict[str, Tensor]) -> None:
    del state["l1.bias"]
    state["l9.weight"] = torch.zeros(2)
    state["l3.weight"] = torch.zeros(2, 256)
    path = saved(tmp_path, state | {"note": "hello"})
    text = failure(path)
    assert "1 missing: l1.bias" in text
    assert "2 unexpected: l9.weight, note" in text
    assert "1 of another shape: l3.weight is 2x256, expected 1x256" in text
    assert "final_rescore_coco_kpt.pth" in text
    report, _ = compare_weights(create_model(SMALL), CATALOGUE[SMALL], path)
    assert not report.fits
    assert report.misshapen == {"l3.weight": ((1, 256), (2, 256))}


def test_a_failed_load_changes_nothing(tmp_path: Path, state: dict[str, Tensor]) -> None:
    network = create_model(SMALL, seed=2)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    del state["l3.bias"]
    with pytest.raises(ModelFileError):
        load_weights(network, CATALOGUE[SMALL], saved(tmp_path, state))
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


def test_file_of_another_network_is_recognised(tmp_path: Path) -> None:
    path = saved(tmp_path, create_model("litehrnet_18_256x192").state_dict())
    text = failure(path, "naive_litehrnet_18_256x192")
    assert "belongs to litehrnet_18_256x192" in text
    assert "and 715 more" in text  # 720 names, 5 shown


def test_not_finite_values_are_refused(tmp_path: Path, state: dict[str, Tensor]) -> None:
    state["l2.bias"][3] = torch.nan
    assert "1 with NaN or infinite values: l2.bias" in failure(saved(tmp_path, state))


class Intruder:
    """Would leave a trace if it were unpickled."""

    trace = Path()

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.trace,)


@pytest.mark.parametrize("new", [True, False])
def test_pickled_code_is_not_run(tmp_path: Path, state: dict[str, Tensor], new: bool) -> None:
    Intruder.trace = tmp_path / "trace"
    path = saved(tmp_path, {"state_dict": state, "extra": Intruder()}, _use_new_zipfile_serialization=new)
    text = failure(path)
    assert "holds a pickled" in text or "damaged" in text
    assert not Intruder.trace.exists()
    bare = tmp_path / "bare.pkl"
    bare.write_bytes(pickle.dumps(Intruder()))
    failure(bare)
    assert not Intruder.trace.exists()


def test_damaged_empty_and_foreign_files(tmp_path: Path, state: dict[str, Tensor]) -> None:
    path = saved(tmp_path, state)
    content = path.read_bytes()
    for length in (10, 1000, len(content) - 200):
        path.write_bytes(content[:length])
        assert "damaged or cut off" in failure(path)
    path.write_bytes(b"")
    assert "neither a PyTorch checkpoint, nor safetensors, nor a Caffe model" in failure(path)
    path.write_bytes(b"<html>Sign in to download")
    assert "neither" in failure(path)
    save_file(state, path)
    path.write_bytes(path.read_bytes()[:-100])
    assert "damaged or cut off" in failure(path)
    assert "Cannot read" in failure(tmp_path)
    assert "Cannot read" in failure(tmp_path / "absent.pth")
    torch.save([1, 2], path)
    assert "holds no state dict" in failure(path)
    torch.save({"epoch": 1}, path)
    assert "holds no state dict" in failure(path)


@pytest.mark.parametrize("kind", ["new", "old", "safetensors"])
def test_damaged_bytes_never_end_in_another_error(tmp_path: Path, kind: str) -> None:
    state = {"l1.weight": torch.ones(2, 2), "l1.bias": torch.ones(3)}
    path = tmp_path / "weights"
    if kind == "safetensors":
        save_file(state, path)
    else:
        torch.save({"state_dict": state}, path, _use_new_zipfile_serialization=kind == "new")
    whole, network = path.read_bytes(), create_model(SMALL, device="meta")
    random = np.random.default_rng(0)
    refused = 0
    for _ in range(300):
        content = bytearray(whole)
        for _ in range(random.integers(1, 4)):
            content[random.integers(len(content))] = random.integers(256)
        path.write_bytes(content)
        try:
            assert not compare_weights(network, CATALOGUE[SMALL], path)[0].fits
        except ModelFileError:
            refused += 1
    assert refused > 100
