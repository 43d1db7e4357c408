"""Pretrained weights from files that these tests write in their makers' layouts."""

from __future__ import annotations

import copy
import io

import h5py
import numpy as np
import pytest
import safetensors.torch
import torch
from networks import make_model
from torch import nn

from limbnet.errors import ModelFileError
from limbnet.models.checkpoint import save_model
from limbnet.models.info import ModelInfo
from limbnet.models.pretrained import load_pretrained
from limbnet.skeleton import BODY_18, Skeleton

KERAS = {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean", "running_var": "moving_variance"}


def keras_layers(model):
    """A network's layers with their weights as Keras orders and names them, layers without weights included."""
    layers = []
    for name, layer in model.items():
        weights = {}
        if isinstance(layer, nn.Conv2d):
            weights["kernel"] = layer.weight.detach().numpy().transpose(2, 3, 1, 0)  # OIHW to HWIO
            if layer.bias is not None:
                weights["bias"] = layer.bias.detach().numpy()
        elif isinstance(layer, nn.BatchNorm2d):
            weights = {theirs: layer.state_dict()[ours].numpy() for ours, theirs in KERAS.items()}
        layers.append((name, weights))
    return layers


def write_keras(path, layers, *, group="", nested="", split=0):
    """Write the layout of Keras 2.2.4's `save_weights` (or, with `group`, of `save`)."""
    with h5py.File(path, "w") as file:
        root = file.create_group(group) if group else file
        if nested:
            layers = [(nested, {f"{name}/{key}": value for name, weights in layers for key, value in weights.items()})]
        names = np.array([name.encode() for name, _ in layers])
        if split:  # attributes above 64 KiB are cut into parts
            for number, part in enumerate(np.array_split(names, split)):
                root.attrs[f"layer_names{number}"] = part
        else:
            root.attrs["layer_names"] = names
        root.attrs["backend"] = b"tensorflow"
        root.attrs["keras_version"] = b"2.2.4"
        for name, weights in layers:
            layer = root.create_group(name)
            full = {(f"{key}:0" if nested else f"{name}/{key}:0"): value for key, value in weights.items()}
            layer.attrs["weight_names"] = np.array([key.encode() for key in full])
            for key, value in full.items():
                layer.create_dataset(key, data=value)


def assert_same(first, second):
    first, second = first.state_dict(), second.state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first if "num_batches" not in name)


@pytest.mark.parametrize(
    "layout", [{}, {"group": "model_weights"}, {"nested": "model_1", "group": "model_weights"}, {"split": 3}]
)
@pytest.mark.parametrize(("architecture", "keys"), [("vgg", {"full": True}), ("resnet", {"nlayers": 18})])
def test_keras_files_by_layer_name(architecture, keys, layout, tmp_path):
    source = make_model(architecture, width=0.05, stages=2, seed=1, **keys)
    model = make_model(architecture, width=0.05, stages=2, seed=2, **keys)
    write_keras(tmp_path / "vgg_19.hdf5", keras_layers(source), **layout)
    report = load_pretrained(model, tmp_path / "vgg_19.hdf5")
    assert_same(model, source)
    assert not report.missing
    assert not report.skipped
    assert f"{len(report.loaded)} of the network's {len(report.loaded)} layers loaded" in str(report)


def test_a_classifiers_backbone_and_what_does_not_fit(tmp_path):
    """As TAO's `vgg_19.hdf5`: the backbone up to `block_5d`, a classifier, and biases that BodyPoseNet's VGG lacks."""
    source = make_model(width=0.05, stages=2, seed=1, backbone_bias=True)
    model = make_model(width=0.05, stages=2, seed=2)
    layers = keras_layers(source)[:33]
    layers = [layer for layer in layers if not layer[0].startswith("block_6a")]
    layers += [
        ("block_5d_conv_1", {"kernel": np.ones((3, 3, 8, 8), np.float32)}),
        ("predictions", {"bias": np.ones(4)}),
    ]
    wrong = dict(layers)["block_2b_conv_1"]
    wrong["kernel"] = np.ones((3, 3, 8, 24), np.float32)
    write_keras(tmp_path / "vgg_19.hdf5", layers)
    before = copy.deepcopy(model)
    report = load_pretrained(model, tmp_path / "vgg_19.hdf5")
    assert report.skipped == {"block_2b_conv_1": "the file's weight is 24x8x3x3, the network's 8x8x3x3"}
    assert report.unused == ["block_5d_conv_1", "predictions"]
    assert report.missing[:2] == ["block_6a_conv_1", "block_6a_bn_1"]
    assert "block_6a_conv_1" in str(report)
    assert "Skipped block_2b_conv_1: the file's weight is 24x8x3x3" in str(report)
    for name in ("block_2b_conv_1.weight", "block_6a_conv_1.weight", "stage1/conv1.weight"):
        assert torch.equal(model.state_dict()[name], before.state_dict()[name])
    # The biases went into the batch norms: up to the layer that was skipped, both networks compute the same.
    images = torch.randn(1, 3, 16, 16)
    for name in ("block_1a", "block_1b", "block_2a"):
        kinds = ("conv_1", "bn_1", "relu")
        ours = theirs = images
        for layer in [f"{place}_{kind}" for place in ("block_1a", "block_1b", "block_2a") for kind in kinds]:
            ours, theirs = model[layer](ours), source[layer](theirs)
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
        assert name in "".join(report.loaded)
    assert "became part of the batch norm that follows: block_1a_conv_1" in str(report)


VGG_19 = (64, 64, "M", 128, 128, "M", 256, 256, 256, 256, "M", 512, 512, 512, 512, "M", 512, 512, 512, 512, "M")


def torchvision_vgg(batch_norm, plan=VGG_19):
    """VGG as torchvision builds it, features and a classifier (a small one)."""
    layers, channels = [], 3
    for out in plan:
        if out == "M":
            layers.append(nn.MaxPool2d(2, 2))
            continue
        layers.append(nn.Conv2d(channels, out, 3, padding=1))
        layers += [nn.BatchNorm2d(out)] if batch_norm else []
        layers.append(nn.ReLU(inplace=True))
        channels = out
    model = nn.ModuleDict({"features": nn.Sequential(*layers), "classifier": nn.Sequential(nn.Linear(8, 4))})
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean.normal_()
            layer.running_var.uniform_(0.5, 2)
    return model.eval()


@pytest.fixture(scope="module")
def vgg_network():
    return make_model(stages=2)


@pytest.mark.parametrize(("batch_norm", "saver"), [(True, "torch"), (False, "safetensors")])
def test_torchvision_vgg_19(batch_norm, saver, vgg_network, tmp_path):
    source, model = torchvision_vgg(batch_norm), copy.deepcopy(vgg_network)
    if saver == "torch":
        torch.save(source.state_dict(), tmp_path / "vgg19.pth")
    else:
        safetensors.torch.save_file(source.state_dict(), tmp_path / "vgg19.pth")
    report = load_pretrained(model, tmp_path / "vgg19.pth")
    places = ["1a", "1b", "2a", "2b", "3a", "3b", "3c", "3d", "4a", "4b"]
    kernels = [layer.weight for layer in source["features"] if isinstance(layer, nn.Conv2d)]
    for place, kernel in zip(places, kernels, strict=False):
        assert torch.equal(model[f"block_{place}_conv_1"].weight, kernel)
    assert [name for name in report.loaded if "conv" in name] == [f"block_{place}_conv_1" for place in places]
    assert report.missing[0] == ("block_6a_conv_1" if batch_norm else "block_1a_bn_1")
    assert {"block_4c_conv_1", "block_5d_conv_1", "classifier.0"} < set(report.unused)
    if not batch_norm:
        assert "bias is dropped, since the network has none there: block_1a_conv_1" in str(report)
        return
    # Before the first pooling both compute the same, but for the epsilon of batch norm (1e-5 there, 1e-3 here).
    images = torch.randn(1, 3, 16, 16)
    theirs = source["features"][:6](images)
    ours = images
    for name in list(model)[:6]:
        ours = model[name](ours)
    torch.testing.assert_close(ours, theirs, atol=5e-3, rtol=5e-3)


def test_torchvision_vgg_of_another_depth(vgg_network, tmp_path):
    torch.save(torchvision_vgg(False, (8, "M", 8)).state_dict(), tmp_path / "vgg.pth")
    with pytest.raises(ModelFileError, match=r"(?s)VGG with 2 convolutions.*vgg19"):
        load_pretrained(vgg_network, tmp_path / "vgg.pth")


def torchvision_resnet_name(name):
    """The opposite of what is tested, written out: BodyPoseNet's layer name to torchvision's."""
    if name in ("conv1", "bn_conv1"):
        return {"conv1": "conv1", "bn_conv1": "bn1"}[name]
    _, place, kind, number = name.split("_")
    block = f"layer{place[0]}.{'abcdef'.index(place[1])}"
    return f"{block}.downsample.{'01'[kind == 'bn']}" if number == "shortcut" else f"{block}.{kind}{number}"


@pytest.mark.parametrize("nlayers", [18, 50])
def test_torchvision_resnet(nlayers, tmp_path):
    source = make_model("resnet", nlayers=nlayers, width=0.1, stages=2, seed=1)
    model = make_model("resnet", nlayers=nlayers, width=0.1, stages=2, seed=2)
    state = {"fc.weight": torch.ones(4, 4), "fc.bias": torch.ones(4), "layer4.0.conv1.weight": torch.ones(1, 1, 1, 1)}
    for name in source:
        if name.startswith(("conv1", "bn_conv1")) or ("block_" in name and "relu" not in name):
            state |= {
                f"{torchvision_resnet_name(name)}.{key}": value for key, value in source[name].state_dict().items()
            }
    assert "layer2.0.downsample.0.weight" in state
    torch.save({"epoch": 3, "state_dict": {f"module.{key}": value for key, value in state.items()}}, tmp_path / "r.pth")
    report = load_pretrained(model, tmp_path / "r.pth")
    images = torch.randn(1, 3, 32, 32)
    assert torch.equal(model.backbone(model, images), source.backbone(source, images))
    assert report.unused == ["fc", "block_4a_conv_1"]
    assert report.missing[0] == "channel_reduction_conv"


def test_limbnet_files_whole_encrypted_and_of_other_widths(tmp_path):
    source, model = make_model(width=0.05, stages=3, seed=1), make_model(width=0.05, stages=3, seed=2)
    save_model(tmp_path / "m", source, ModelInfo(BODY_18), key="key", training={"momentum": torch.ones(3)})
    with pytest.raises(ModelFileError, match="is encrypted"):
        load_pretrained(model, tmp_path / "m")
    report = load_pretrained(model, tmp_path / "m", "key")
    assert_same(model, source)
    assert not report.unused
    wide = make_model(width=0.1, stages=2, seed=3)
    report = load_pretrained(wide, tmp_path / "m", "key")
    assert report.loaded  # the narrowest layers have eight channels in both
    assert "channel_reduction_conv" in report.skipped
    assert {"stage3/conv1", "stage2/paf_branch/out"} < set(report.unused)


def test_outputs_of_another_skeleton_start_fresh(tmp_path):
    """Even where the shapes agree: another joint's heatmap is no start."""
    renamed = Skeleton("mirrored", tuple(reversed(BODY_18.joints)), BODY_18.limbs)
    source, model = make_model(width=0.05, seed=1), make_model(width=0.05, seed=2, skeleton=renamed)
    before = copy.deepcopy(model)
    save_model(tmp_path / "m", source, ModelInfo(BODY_18))
    report = load_pretrained(model, tmp_path / "m")
    assert set(report.skipped) == set(model.output_layers)
    assert report.skipped["heatmap_out"] == "the file's skeleton is another one"
    assert torch.equal(model["heatmap_out"].weight, before["heatmap_out"].weight)
    assert torch.equal(model["stage2/conv2"].weight, source["stage2/conv2"].weight)


def test_files_without_usable_weights(small, tmp_path):
    before = copy.deepcopy(small)

    def refused(name, words):
        with pytest.raises(ModelFileError, match=words):
            load_pretrained(small, tmp_path / name)
        assert_same(small, before)

    write_keras(tmp_path / "other.h5", [("dense", {"kernel": np.ones((3, 4))})])
    refused("other.h5", "(?s)Not one layer of '.*other.h5' fits.*dense")
    with h5py.File(tmp_path / "calibration.h5", "w") as file:
        file.attrs["count"] = 3
    refused("calibration.h5", "holds no Keras weights")
    write_keras(tmp_path / "cut.h5", keras_layers(small))
    whole = (tmp_path / "cut.h5").read_bytes()
    (tmp_path / "cut.h5").write_bytes(whole[: len(whole) // 2])
    refused("cut.h5", "damaged or cut short")
    torch.save({"weights": {"a": 1}}, tmp_path / "plain.pth")
    refused("plain.pth", "holds no state dict")
    torch.save(nn.Linear(2, 2), tmp_path / "module.pth")
    refused("module.pth", "more than tensors")
    buffer = io.BytesIO()
    torch.save(small.state_dict(), buffer)
    (tmp_path / "cut.pth").write_bytes(buffer.getvalue()[:-2000])
    refused("cut.pth", "damaged|kind")
    safetensors.torch.save_file({"a.weight": torch.ones(3)}, tmp_path / "foreign.safetensors")
    refused("foreign.safetensors", "Not one layer")
    (tmp_path / "nvidia.tlt").write_bytes(bytes(range(128, 256)) * 100)
    refused("nvidia.tlt", "(?s)no kind that limbnet knows.*NVIDIA")
    refused("missing.h5", "There is no file")
