"""BodyPoseNet: published sizes and names, what forward computes, rebuilding, export."""

from __future__ import annotations

import copy
import json

import numpy as np
import pytest
import torch
from networks import flat, make_model, model_spec
from torch import nn

from limbnet.errors import ModelFileError, SpecError, UsageError
from limbnet.models.bodyposenet import build_from_architecture, build_model
from limbnet.models.counting import count_parameters
from limbnet.skeleton import BODY_18

LITE_3 = [
    "stage1/conv1",
    "stage1/conv2",
    "stage1/conv3",
    "stage1/paf/conv4",
    "stage1/paf_branch/out",
    "stage1/cmap/conv4",
    "stage1/heat_branch/out",
    "stage2/conv1",
    "stage2/conv2",
    "stage2/conv3",
    "stage2/conv4",
    "stage2/conv5",
    "stage2/paf/conv6",
    "stage2/paf_branch/out",
    "stage2/cmap/conv6",
    "stage2/heat_branch/out",
    "stage3/conv1",
    "stage3/conv2",
    "stage3/conv3",
    "stage3/conv4",
    "stage3/conv5",
    "stage3/paf/conv6",
    "paf_out",
    "stage3/cmap/conv6",
    "heatmap_out",
]

FULL_2 = [
    "stage1/paf_branch/conv1",
    "stage1/paf_branch/conv2",
    "stage1/paf_branch/conv3",
    "stage1/paf_branch/conv4",
    "stage1/paf_branch/out",
    "stage1/heat_branch/conv1",
    "stage1/heat_branch/conv2",
    "stage1/heat_branch/conv3",
    "stage1/heat_branch/conv4",
    "stage1/heat_branch/out",
    "stage2/paf_branch/conv1",
    "stage2/paf_branch/conv2",
    "stage2/paf_branch/conv3",
    "stage2/paf_branch/conv4",
    "stage2/paf_branch/conv5",
    "stage2/paf_branch/conv6",
    "paf_out",
    "stage2/heat_branch/conv1",
    "stage2/heat_branch/conv2",
    "stage2/heat_branch/conv3",
    "stage2/heat_branch/conv4",
    "stage2/heat_branch/conv5",
    "stage2/heat_branch/conv6",
    "heatmap_out",
]


@pytest.mark.parametrize(
    ("keys", "convs", "parameters"),
    [
        ({"stages": 2}, 28, 12_365_234),
        ({"stages": 3}, 37, 16_777_835),
        ({"stages": 6}, 64, 30_015_638),
        ({"stages": 7}, 73, 34_428_239),
        ({"stages": 2, "use_self_attention": True}, 30, 12_660_402),
        ({"stages": 3, "use_self_attention": True}, 41, 17_368_171),
        ({"stages": 6, "use_self_attention": True}, 74, 31_491_478),
        ({"stages": 7, "use_self_attention": True}, 85, 36_199_247),
        ({"stages": 2, "full": True}, 36, 17_180_210),
        ({"stages": 3, "full": True}, 50, 25_965_035),
        ({"stages": 6, "full": True}, 92, 52_319_510),
        ({"architecture": "helnet", "nlayers": 18, "mtype": "s8_3rdblock", "use_batch_norm": False}, 39, 12_463_531),
        (
            {"architecture": "helnet", "nlayers": 10, "mtype": "s8_3rdblock", "use_batch_norm": False,
             "stages": 6, "full": True},
            88, 46_456_022,
        ),
    ],
)  # fmt: skip
def test_published_sizes(keys, convs, parameters):
    with torch.device("meta"):
        model = build_model(model_spec(**keys), BODY_18)
    assert count_parameters(model) == parameters
    assert len(model.conv_layers()) == convs


def test_layer_names_in_graph_order():
    lite, full = make_model(width=0.05), make_model(width=0.05, full=True, stages=2)
    assert list(lite.conv_layers())[11:] == ["channel_reduction_conv", *LITE_3]
    assert list(full.conv_layers())[12:] == FULL_2
    assert {f"{name}.weight" for name in LITE_3} < set(lite.state_dict())
    assert "stage1/conv1/relu" in lite
    assert lite.output_layers == (
        "stage1/heat_branch/out", "stage1/paf_branch/out", "stage2/heat_branch/out", "stage2/paf_branch/out",
        "heatmap_out", "paf_out",
    )  # fmt: skip
    attentive = make_model(width=0.05, stages=2, use_self_attention=True)
    assert attentive.elementwise_groups == (
        ("stage2/paf/conv6", "stage2/paf/attention_conv"), ("stage2/cmap/conv6", "stage2/cmap/attention_conv"),
    )  # fmt: skip
    assert lite.elementwise_groups == ()


def test_kernel_sizes_of_the_stages():
    model = make_model(width=0.05, stages=2, stage1_kernel_sizes=(3, 1), stageT_kernel_sizes=(7, 5, 4))
    sizes = {name: layer.kernel_size[0] for name, layer in model.conv_layers().items() if name.startswith("stage")}
    assert sizes == {
        "stage1/conv1": 3, "stage1/conv2": 1, "stage1/paf/conv3": 1, "stage1/paf_branch/out": 1, "stage1/cmap/conv3": 1,
        "stage1/heat_branch/out": 1, "stage2/conv1": 7, "stage2/conv2": 5, "stage2/conv3": 4, "stage2/paf/conv4": 1,
        "stage2/cmap/conv4": 1,
    }  # fmt: skip
    assert model(torch.randn(1, 3, 16, 24)).pafs[-1].shape[2:] == (2, 3)


@pytest.mark.parametrize("full", [False, True])
def test_maps_follow_the_skeleton(full, hand):
    model = make_model(width=0.05, skeleton=hand, full=full, stages=4)
    maps = model(torch.randn(2, 3, 40, 24))
    assert [tuple(heat.shape) for heat in maps.heatmaps] == [(2, 5, 5, 3)] * 4
    assert [tuple(paf.shape) for paf in maps.pafs] == [(2, 6, 5, 3)] * 4


def test_a_stage_sees_features_then_heatmaps_then_pafs():
    model = make_model(width=1.0, stages=2)
    seen = {}
    for name in ("stage2/conv1", "channel_reduction_conv/relu"):
        model[name].register_forward_hook(lambda _, inputs, output, name=name: seen.update({name: (inputs[0], output)}))
    with torch.no_grad():
        maps = model(torch.randn(1, 3, 16, 16))
    stage_input = seen["stage2/conv1"][0]
    assert stage_input.shape[1] == 185
    features = seen["channel_reduction_conv/relu"][1]
    assert torch.equal(stage_input, torch.cat((features, maps.heatmaps[0], maps.pafs[0]), 1))


def test_outputs_of_a_stage_written_out():
    """The last stage of a full network with attention, layer by layer."""
    model = make_model(width=0.05, stages=2, full=True, use_self_attention=True)
    captured = {}
    model["stage2/heat_branch/conv1"].register_forward_hook(lambda _, inputs, __: captured.update(x=inputs[0]))
    with torch.no_grad():
        maps = model(torch.randn(1, 3, 16, 16))
        for branch, squash, out, expected in (
            ("heat_branch", torch.sigmoid, "heatmap_out", maps.heatmaps[-1]),
            ("paf_branch", torch.tanh, "paf_out", maps.pafs[-1]),
        ):
            x = captured["x"]
            for number in range(1, 7):
                x = torch.relu(model[f"stage2/{branch}/conv{number}"](x))
            x = x * squash(model[f"stage2/{branch}/attention_conv"](x))
            assert torch.equal(model[out](x), expected)
            assert expected.min() < 0  # no activation on the output


def test_fresh_weights():
    torch.manual_seed(3)
    model = build_model(model_spec(stages=2), BODY_18)
    kernel = model["stage2/conv2"].weight
    assert kernel.mean().abs() < 1e-4
    assert kernel.std().item() == pytest.approx(0.01, rel=0.01)
    assert all(not conv.bias.any() for name, conv in model.conv_layers().items() if conv.bias is not None)
    glorot = (6 / (9 * 256 + 9 * 256)) ** 0.5
    backbone = model["block_3b_conv_1"].weight
    assert glorot * 0.99 < backbone.abs().max() <= glorot
    xavier = build_model(model_spec(stages=2, kernel_initializer="xavier"), BODY_18)["stage2/conv2"].weight
    limit = (6 / (49 * 128 + 49 * 128)) ** 0.5
    assert limit * 0.99 < xavier.abs().max() <= limit
    he = build_model(model_spec(stages=2, kernel_initializer="he_normal"), BODY_18)
    assert he["stage2/conv2"].weight.std().item() == pytest.approx((2 / (49 * 128)) ** 0.5, rel=0.01)
    assert he["heatmap_out"].weight.std().item() == pytest.approx(0.01, rel=0.1)
    torch.manual_seed(3)
    assert torch.equal(build_model(model_spec(stages=2), BODY_18)["stage2/conv2"].weight, kernel)


def test_regularised_layers():
    vgg = make_model(width=0.05, stages=2)
    helnet = make_model("helnet", nlayers=6, mtype="s8_3rdblock", width=0.05, stages=2)
    assert set(vgg.regularised_layers) == set(vgg.conv_layers())
    assert set(helnet.conv_layers()) - set(helnet.regularised_layers) == set(helnet.backbone_layers)
    assert helnet.backbone_layers == ("conv1", "block_1a_conv_1", "block_2a_conv_1", "block_3a_conv_1")


@pytest.mark.parametrize(
    ("architecture", "keys"),
    [
        ("vgg", {"use_self_attention": True}),
        ("helnet", {"nlayers": 12, "mtype": "s8_1stlayer"}),
        ("resnet", {"nlayers": 50}),
    ],
)
def test_architecture_rebuilds_the_network(architecture, keys, hand):
    model = make_model(architecture, skeleton=hand, width=0.1, stages=3, use_bias=False, **keys)
    described = json.loads(json.dumps(model.architecture))
    assert described == model.architecture
    rebuilt = build_from_architecture(described, hand).eval()
    rebuilt.load_state_dict(model.state_dict())
    images = torch.randn(1, 3, 32, 48)
    assert all(torch.equal(a, b) for a, b in zip(flat(model(images)), flat(rebuilt(images)), strict=True))


def test_architecture_describes_pruned_layers(small):
    described = copy.deepcopy(small.architecture)
    described["channels"] |= {"block_2b_conv_1": 5, "channel_reduction_conv": 3, "stage2/conv5": 1}
    pruned = build_from_architecture(described, BODY_18)
    assert pruned["block_3a_conv_1"].in_channels == 5
    assert pruned["block_2b_bn_1"].num_features == 5
    assert pruned["stage2/conv1"].in_channels == 3 + 19 + 38
    assert pruned["stage2/cmap/conv6"].in_channels == 1
    assert pruned.architecture == described
    assert pruned(torch.randn(1, 3, 16, 16)).pafs[-1].shape == (1, 38, 2, 2)


def test_wrong_architectures_are_refused(small, hand):
    right = small.architecture
    missing = {**right, "channels": {name: n for name, n in right["channels"].items() if name != "stage2/conv1"}}
    for wrong, words in (
        ({"class_name": "BpNetLiteModel"}, "no description of a BodyPoseNet"),
        ({**right, "class_name": "YoloModel"}, "class 'YoloModel'"),
        ({**right, "stages": 9}, "9 stages"),
        (missing, "lacks the width of layer 'stage2/conv1'"),
        ({**right, "channels": right["channels"] | {"stage9/conv1": 8}}, "no layer 'stage9/conv1'"),
        ({**right, "channels": right["channels"] | {"stage2/conv1": 0}}, "0 channels"),
    ):
        with pytest.raises(ModelFileError, match=words):
            build_from_architecture(wrong, BODY_18)
    with pytest.raises(ModelFileError, match="'heatmap_out' has 19 channels, the skeleton 'hand' needs 5"):
        build_from_architecture(right, hand)
    attentive = make_model(width=0.05, stages=2, use_self_attention=True).architecture
    attentive["channels"]["stage2/paf/attention_conv"] = 3
    with pytest.raises(ModelFileError, match="stage2/paf/conv6, stage2/paf/attention_conv have 8, 3 channels"):
        build_from_architecture(attentive, BODY_18)


def test_channels_of_another_skeleton_in_the_spec_are_refused():
    with pytest.raises(SpecError) as caught:
        build_model(model_spec(heat_channels=18, paf_channels=40), BODY_18)
    assert "heat_channels is 18" in str(caught.value)
    assert "paf_channels is 40, the skeleton 'bpnet_18_joints' has 38" in str(caught.value)


def test_input_that_is_no_multiple_of_the_stride_is_refused(small):
    with pytest.raises(UsageError, match=r"100x64.*stride 8") as caught:
        small(torch.zeros(1, 3, 100, 64))
    assert "Use 104x64" in str(caught.value)


def test_channels_last_and_mixed_precision_give_the_same_maps(small):
    images = torch.randn(2, 3, 32, 48)
    with torch.no_grad():
        plain = small(images)
        last = copy.deepcopy(small).to(memory_format=torch.channels_last)(images.to(memory_format=torch.channels_last))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            mixed = small(images)
    assert mixed.pafs[-1].dtype == torch.bfloat16
    for exact, other, rough in zip(flat(plain), flat(last), flat(mixed), strict=True):
        torch.testing.assert_close(other, exact, atol=1e-5, rtol=1e-4)
        assert (rough - exact).abs().max() < 0.05 * exact.abs().max()


def test_torch_compile_takes_the_whole_graph(small):
    compiled = torch.compile(small, backend="eager", fullgraph=True)
    images = torch.randn(1, 3, 16, 16)
    assert torch.equal(compiled(images).heatmaps[-1], small(images).heatmaps[-1])


EXPORTED = [
    ("vgg", {"use_self_attention": True}),
    ("resnet", {"nlayers": 18}),
    ("helnet", {"nlayers": 6, "mtype": "s8_3rdblock_wdilation", "full": True}),
]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("architecture", "keys"), EXPORTED)
def test_onnx_with_free_batch_height_and_width_equals_torch(architecture, keys, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed")
    model = make_model(architecture, width=0.1, stages=2, **keys)
    free = torch.export.Dim.DYNAMIC
    program = torch.onnx.export(
        model, (torch.randn(2, 3, 32, 48),), dynamo=True, dynamic_shapes=({0: free, 2: free, 3: free},), verbose=False
    )
    program.save(tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    for shape in ((1, 3, 64, 64), (3, 3, 80, 32), (1, 3, 8, 8)):
        images = torch.randn(shape)
        found = session.run(None, {session.get_inputs()[0].name: images.numpy()})
        with torch.no_grad():
            expected = flat(model(images))
        for ours, theirs in zip(expected, found, strict=True):
            np.testing.assert_allclose(theirs, ours.numpy(), atol=1e-5 * float(ours.abs().max()) + 1e-7)


def test_deep_copies_are_independent(small):
    twin = copy.deepcopy(small)
    nn.init.zeros_(twin["heatmap_out"].weight)
    nn.init.zeros_(twin["heatmap_out"].bias)
    images = torch.randn(1, 3, 16, 16)
    assert not twin(images).heatmaps[-1].any()
    assert small(images).heatmaps[-1].any()
