"""Pruning against the counts of the original, and against the network it was cut from."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from limbnet.errors import UsageError
from limbnet.models.bodyposenet import BodyPoseNet, build_from_architecture, build_model
from limbnet.pruning import EQUALIZATIONS, PruneSettings, choose_filters, filters_to_keep, normalised_norms, prune
from limbnet.skeleton import BODY_18
from limbnet.specs.train import BackboneAttributes, ModelSpec

BACKBONES = {
    "vgg": {"architecture": "vgg"},
    "helnet": {"architecture": "helnet", "nlayers": 6, "mtype": "s8_3rdblock", "use_batch_norm": False},
    "resnet18": {"architecture": "resnet", "nlayers": 18},
    "resnet50": {"architecture": "resnet", "nlayers": 50},
    "lite0": {"architecture": "efficientnet_lite0"},
}


def network(backbone: str = "vgg", attention: bool = False, full: bool = False) -> BodyPoseNet:
    """Build a narrow network whose filters differ in norm and whose batch norm has seen something."""
    torch.manual_seed(7)
    spec = ModelSpec(
        class_name="BpNetModel" if full else "BpNetLiteModel",
        backbone_attributes=BackboneAttributes(width=0.25, **BACKBONES[backbone]),
        width=0.25,
        stages=2,
        use_self_attention=attention,
        kernel_initializer="xavier",
    )
    model = build_model(spec, BODY_18)
    with torch.no_grad():
        for conv in model.conv_layers().values():
            conv.weight.mul_(torch.rand(conv.out_channels, 1, 1, 1) + 0.01)
            if conv.bias is not None:
                conv.bias.normal_(std=0.1)
    model.train()
    model(torch.randn(2, 3, 32, 32))
    return model.eval()


def outputs(model: BodyPoseNet) -> list[torch.Tensor]:
    with torch.inference_mode():
        maps = model(torch.linspace(-0.5, 0.5, 3 * 32 * 48).reshape(1, 3, 32, 48))
    return maps.heatmaps + maps.pafs


def test_64_filters_of_which_26_pass_keep_32() -> None:
    score = np.zeros(64)
    score[10:36] = 1.0
    keep = filters_to_keep(score, PruneSettings(threshold=0.1))
    assert len(keep) == 32
    assert set(range(10, 36)) <= set(keep)
    assert list(keep) == sorted(keep)
    assert [index for index in keep if not 10 <= index < 36] == [0, 1, 2, 3, 4, 5]  # ties: the first ones stay


@given(
    total=st.integers(1, 40).map(lambda n: n * 8),
    removable=st.floats(0, 1),
    granularity=st.sampled_from([1, 2, 4, 8]),
    min_filters=st.integers(1, 5).map(lambda n: n * 8),
)
def test_counts_are_those_of_the_original(total: int, removable: float, granularity: int, min_filters: int) -> None:
    prunable = round(total * removable)
    score = np.ones(total)
    score[:prunable] = 0.01
    keep = filters_to_keep(score, PruneSettings(granularity=granularity, min_filters=min_filters))
    least = min(min_filters, total)
    assert len(keep) == total - min(prunable - prunable % granularity, total - least)


def test_norms() -> None:
    kernel = torch.tensor([[3.0, 4.0], [0.0, 5.0], [0.0, 0.0]]).reshape(3, 2, 1, 1)
    np.testing.assert_allclose(normalised_norms(kernel, "max"), [1.0, 1.0, 0.0])
    np.testing.assert_allclose(normalised_norms(kernel, "L2"), [3 / 2**0.5, 3 / 2**0.5, 0.0])
    equal = torch.ones(16, 2, 3, 3)
    np.testing.assert_allclose(normalised_norms(equal, "L2"), np.full(16, 4.0))  # the root of their number


@pytest.mark.parametrize("backbone", BACKBONES)
def test_threshold_zero_changes_no_bit(backbone: str) -> None:
    model = network(backbone, attention=True)
    with torch.no_grad():  # a filter without weights still adds its bias
        model["stage1/conv2"].weight[3] = 0
        model["stage1/conv2"].bias[3] = 1.5
    for before, after in zip(outputs(model), outputs(prune(model, PruneSettings(threshold=0))), strict=True):
        assert torch.equal(before, after)


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("attention", [False, True])
@pytest.mark.parametrize("backbone", BACKBONES)
def test_removing_dead_filters_leaves_the_outputs(backbone: str, attention: bool, full: bool) -> None:
    model = network(backbone, attention, full)
    dead = {
        name: conv.out_channels // 4
        for name, conv in model.conv_layers().items()
        if name not in model.output_layers and not any(name in group for group in model.elementwise_groups)
    }
    norms = {name.replace("conv", "bn"): name for name in dead} if backbone != "helnet" else {}
    with torch.no_grad():
        for name, count in dead.items():
            conv = model.conv_layers()[name]
            conv.weight[:count] = 0
            if conv.bias is not None:
                conv.bias[:count] = 0
        for norm, name in norms.items():
            if norm in model:  # the channel then carries exactly zero
                for values, number in ((model[norm].bias, 0.0), (model[norm].running_mean, 0.0)):
                    values[: dead[name]] = number
    smaller = prune(model, PruneSettings(threshold=1e-9, granularity=1, min_filters=1))
    counts = {name: conv.out_channels for name, conv in smaller.conv_layers().items()}
    for name, count in dead.items():
        assert counts[name] == model.conv_layers()[name].out_channels - count, name
    for before, after in zip(outputs(model), outputs(smaller), strict=True):
        torch.testing.assert_close(after, before, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("backbone", BACKBONES)
def test_pruned_networks_are_pruned_again_and_outputs_stay_whole(backbone: str) -> None:
    model = network(backbone, attention=True)
    once = prune(model, PruneSettings(threshold=0.3, min_filters=4, granularity=4))
    twice = prune(once, PruneSettings(threshold=0.6, min_filters=4, granularity=4))
    sizes = [sum(tensor.numel() for tensor in net.parameters()) for net in (model, once, twice)]
    assert sizes[0] > sizes[1] > sizes[2]
    for name in model.output_layers:
        assert twice.conv_layers()[name].out_channels == model.conv_layers()[name].out_channels
    assert all(torch.isfinite(maps).all() for maps in outputs(twice))
    assert model.architecture == network(backbone, attention=True).architecture  # the original is left alone


def test_kept_filters_are_the_original_ones() -> None:
    model = network()
    smaller = prune(model, PruneSettings(threshold=0.4, granularity=4, min_filters=4))
    kept = choose_filters(model, PruneSettings(threshold=0.4, granularity=4, min_filters=4))
    first = kept["block_1a_conv_1"]
    assert first is not None
    assert torch.equal(smaller["block_1a_conv_1"].weight, model["block_1a_conv_1"].weight[first])
    # stage 2 reads features, heatmaps and fields: its inputs shrink by the features' filters alone
    features = kept["channel_reduction_conv"]
    assert features is not None
    width = model["channel_reduction_conv"].out_channels
    channels = [*features, *range(width, width + 57)]
    rows = kept["stage2/conv1"]
    rows = np.arange(model["stage2/conv1"].out_channels) if rows is None else rows
    assert torch.equal(smaller["stage2/conv1"].weight, model["stage2/conv1"].weight[rows][:, channels])


@pytest.mark.parametrize("equalization", EQUALIZATIONS)
def test_layers_that_meet_in_a_product_share_their_filters(equalization: str) -> None:
    model = network(attention=True)
    prune_settings = PruneSettings(threshold=0.5, equalization=equalization, granularity=1, min_filters=1)
    kept = choose_filters(model, prune_settings)
    pair = ("stage2/paf/conv6", "stage2/paf_branch/attention_conv")
    group = next(group for group in model.elementwise_groups if pair[0] in group)
    norms = [normalised_norms(model[name].weight, "max") for name in group]
    combined = {
        "union": np.maximum(*norms),
        "intersection": np.minimum(*norms),
        "arithmetic_mean": (norms[0] + norms[1]) / 2,
        "geometric_mean": np.sqrt(norms[0] * norms[1]),
    }[equalization]
    expected = np.flatnonzero(combined > 0.5)
    for name in group:
        filters = kept[name]
        actual = np.arange(len(combined)) if filters is None else filters
        assert list(actual) == list(expected)
    excluded = choose_filters(model, PruneSettings(threshold=0.5, excluded=(group[0],)))
    assert all(excluded[name] is None for name in group)


def test_excluded_layers_stay_whole() -> None:
    model = network()
    smaller = prune(model, PruneSettings(threshold=0.5, granularity=1, min_filters=1, excluded=("stage1/conv2",)))
    assert smaller["stage1/conv2"].out_channels == model["stage1/conv2"].out_channels
    assert smaller["stage1/conv3"].out_channels < model["stage1/conv3"].out_channels


def test_mistakes() -> None:
    model = network()
    with pytest.raises(UsageError, match=r"stage1/conv9.*Did you mean 'stage1/conv"):
        prune(model, PruneSettings(excluded=("stage1/conv9",)))
    with pytest.raises(UsageError, match="removes every filter"):
        prune(model, PruneSettings(threshold=1.0))
    assert prune(model, PruneSettings(threshold=1.0, normalizer="L2")) is not None


@settings(max_examples=15, deadline=None)
@given(threshold=st.floats(0.01, 0.95), granularity=st.sampled_from([1, 4, 8]), min_filters=st.integers(1, 24))
def test_any_setting_gives_a_network_that_runs(threshold: float, granularity: int, min_filters: int) -> None:
    model = network("resnet18", attention=True)
    smaller = prune(model, PruneSettings(threshold, granularity=granularity, min_filters=min_filters))
    for before, after in zip(outputs(model), outputs(smaller), strict=True):
        assert after.shape == before.shape
        assert torch.isfinite(after).all()


def light_network() -> BodyPoseNet:
    torch.manual_seed(7)
    spec = ModelSpec(
        class_name="BpNetLightModel",
        backbone_attributes=BackboneAttributes(architecture="efficientnet_lite0", width=0.5),
        width=0.25,
        stages=2,
        stageT_kernel_sizes=(7, 5),
    )
    model = build_model(spec, BODY_18)
    with torch.no_grad():
        for conv in model.conv_layers().values():
            conv.weight.mul_(torch.rand(conv.out_channels, 1, 1, 1) + 0.01)
    model.train()
    model(torch.randn(2, 3, 64, 64))
    return model.eval()


def test_light_networks_lose_dead_channels_and_keep_their_outputs() -> None:
    """A dead channel is one through a whole group: widened, filtered alone, narrowed, summed."""
    model = light_network()
    dead = 3
    units = [group for group in model.elementwise_groups if group[0].startswith(("block_4b", "stage"))]
    assert len(units) == 3  # one widened and filtered layer, two stages
    with torch.no_grad():
        for name in {name for unit in units for name in unit}:
            layer, norm = model[name], model[name.removesuffix("_conv") + "_bn"]
            layer.weight[:dead] = 0
            norm.bias[:dead] = 0
            norm.running_mean[:dead] = 0
    smaller = prune(model, PruneSettings(threshold=1e-9, granularity=1, min_filters=1))
    for unit in units:
        for name in unit:
            assert smaller[name].out_channels == model[name].out_channels - dead
            if "depthwise" in name:
                assert smaller[name].groups == smaller[name].in_channels == smaller[name].out_channels
    for before, after in zip(outputs(model), outputs(smaller), strict=True):
        torch.testing.assert_close(after, before, rtol=1e-3, atol=1e-5)


def test_light_networks_are_pruned_twice() -> None:
    model = light_network()
    once = prune(model, PruneSettings(threshold=0.3, min_filters=4, granularity=4))
    twice = prune(once, PruneSettings(threshold=0.6, min_filters=4, granularity=4))
    sizes = [sum(tensor.numel() for tensor in net.parameters()) for net in (model, once, twice)]
    assert sizes[0] > sizes[1] > sizes[2]
    assert [maps.shape for maps in outputs(twice)] == [maps.shape for maps in outputs(model)]


def test_the_levels_of_an_image_pyramid_are_cut_alike() -> None:
    model = light_network()
    pyramid = build_from_architecture(model.architecture | {"image_pyramid_levels": 2}, model.skeleton)
    pyramid.load_state_dict(model.state_dict())
    settings = PruneSettings(threshold=0.3, min_filters=4, granularity=4)
    smaller, single = prune(pyramid, settings), prune(model, settings)
    assert smaller.architecture == single.architecture | {"image_pyramid_levels": 2}
    assert all(torch.equal(tensor, single.state_dict()[name]) for name, tensor in smaller.state_dict().items())
    assert [maps.shape for maps in outputs(smaller)] == [maps.shape for maps in outputs(model)]
