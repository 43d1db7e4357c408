"""Light networks: EfficientNet-Lite0's published size, the sum of its strides, separable stages, any picture size."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from limbnet.errors import ModelFileError
from limbnet.models.backbones import BACKBONES
from limbnet.models.bodyposenet import BodyPoseNet, build_from_architecture, build_model, first_stages
from limbnet.models.efficientnet import LITE0_STAGES, lite0_blocks
from limbnet.models.folding import fold_batch_norms
from limbnet.models.layers import LayerBuilder, LopsidedConv2d
from limbnet.models.pretrained import load_pretrained
from limbnet.skeleton import BODY_18, Skeleton
from limbnet.specs.train import BackboneAttributes, ModelSpec

ARROW = Skeleton.from_names("arrow", ["tail", "shaft", "tip"], [("tail", "shaft"), ("shaft", "tip")])


def light(skeleton: Skeleton = ARROW, *, output_stride: int = 8, **keys: object) -> BodyPoseNet:
    torch.manual_seed(0)
    backbone = BackboneAttributes(architecture="efficientnet_lite0", width=0.25, output_stride=output_stride)
    spec = ModelSpec(
        class_name="BpNetLightModel", backbone_attributes=backbone, width=0.25,
        **{"stages": 2, "stage1_kernel_sizes": (5,), "stageT_kernel_sizes": (7, 3), **keys},
    )  # fmt: skip
    return build_model(spec, skeleton).eval()


def test_lite0_has_the_published_parameters() -> None:
    """4,652,008 of the whole classifier, less those of its last convolution, its norm and its 1000 classes."""
    layers = nn.ModuleDict()
    BACKBONES["efficientnet_lite0"](LayerBuilder(layers))
    body = {name: layer for name, layer in layers.items() if not name.startswith("fuse")}
    assert sum(p.numel() for layer in body.values() for p in layer.parameters()) == 4_652_008 - (
        320 * 1280 + 2 * 1280 + 1281 * 1000
    )
    assert len(lite0_blocks()) == 16
    assert sum(isinstance(layer, nn.Conv2d) for layer in body.values()) == 1 + 2 + 15 * 3
    strided = {name for name, layer in body.items() if getattr(layer, "stride", 1) == (2, 2)}
    assert strided == {"stem_conv", *(f"block_{n}a_depthwise_conv" for n in (2, 3, 4, 6))}
    assert not any(isinstance(layer, nn.ReLU | nn.Sigmoid) for layer in body.values())  # bounded, no gates


def test_padding_never_depends_on_the_size() -> None:
    """A size that is no multiple is padded at its end; a multiple gives what "same" padding gives."""
    conv = LopsidedConv2d(1, 1, 3, stride=2, dilation=1, groups=1, bias=False, padding=(0, 2))
    plain = LopsidedConv2d(1, 1, 3, stride=2, dilation=1, groups=1, bias=False, padding=(0, 1))
    plain.load_state_dict(conv.state_dict())
    even, odd = torch.randn(1, 1, 8, 8), torch.randn(1, 1, 7, 7)
    torch.testing.assert_close(conv(even), plain(even), rtol=0, atol=0)
    torch.testing.assert_close(conv(odd), plain(F.pad(odd, (0, 1, 0, 1))), rtol=0, atol=0)


@pytest.mark.parametrize("stages", [1, 2, 3])
def test_the_first_stages_alone_say_what_they_said(stages: int) -> None:
    whole = light(stages=3)
    for stage in whole.stages:  # fresh outputs are nearly alike
        for name in (*stage.heat.out.names, *stage.paf.out.names):
            nn.init.normal_(whole[name].weight)
    short = first_stages(whole, stages).eval()
    images = torch.randn(1, 3, 32, 48)
    expected, found = whole(images), short(images)
    assert len(found.heatmaps) == stages
    for ours, theirs in zip((*found.heatmaps, *found.pafs), (*expected.heatmaps[:stages], *expected.pafs[:stages]),
                            strict=True):  # fmt: skip
        assert torch.equal(ours, theirs)
    build_from_architecture(short.architecture, ARROW).load_state_dict(short.state_dict())


@pytest.mark.parametrize("stages", [0, 4])
def test_stages_that_are_not_there_cannot_be_kept(stages: int) -> None:
    with pytest.raises(ModelFileError, match=f"cannot be cut to {stages} stages"):
        first_stages(light(stages=3), stages)


@pytest.mark.parametrize("output_stride", [4, 8])
def test_features_are_the_sum_of_all_strides(output_stride: int) -> None:
    layers = nn.ModuleDict()
    backbone = BACKBONES["efficientnet_lite0"](LayerBuilder(layers), width=0.25, fused=16, output_stride=output_stride)
    layers.eval()
    images = torch.randn(1, 3, 40, 72)  # no multiple of 16
    (pyramid,) = backbone.parts
    x, expected = images, 0
    for number, level in enumerate(pyramid.levels):
        x = level(layers, x)
        stride = output_stride << number
        assert x.shape[2:] == (-(-40 // stride), -(-72 // stride))
        lateral = layers[f"fuse_stride{stride}_bn"](layers[f"fuse_stride{stride}_conv"](x))
        repeated = lateral.repeat_interleave(2**number, 2).repeat_interleave(2**number, 3)
        expected = expected + repeated[:, :, : 40 // output_stride, : 72 // output_stride]
    for name in ("fuse_depthwise_conv", "fuse_depthwise_bn", "fuse_depthwise_relu"):
        expected = layers[name](expected)
    torch.testing.assert_close(backbone(layers, images), expected)
    assert backbone.stride == output_stride


def test_inverted_residuals_add_what_came_in() -> None:
    model = light()
    x = torch.randn(1, 8, 16, 16)
    block = model.backbone.parts[0].levels[0].parts[3]  # block_2b
    y = x
    for part in ("expand", "depthwise", "project"):
        y = model[f"block_2b_{part}_bn"](model[f"block_2b_{part}_conv"](y))
        y = y if part == "project" else y.clamp(0, 6)
    torch.testing.assert_close(block(model, x), x + y)


@pytest.mark.parametrize("output_stride", [4, 8])
@pytest.mark.parametrize("stages", [1, 2, 3])
def test_maps_of_any_skeleton_and_size(stages: int, output_stride: int) -> None:
    model = light(stages=stages, output_stride=output_stride)
    maps = model(torch.randn(2, 3, 40, 72))
    size = (40 // output_stride, 72 // output_stride)
    assert [heat.shape for heat in maps.heatmaps] == [(2, 4, *size)] * stages
    assert [paf.shape for paf in maps.pafs] == [(2, 4, *size)] * stages
    assert model.output_layers[-2:] == ("heatmap_out", "paf_out")
    assert model.stride == output_stride


@pytest.mark.parametrize("levels", [2, 3])
def test_levels_of_the_image_pyramid_are_averaged(levels: int) -> None:
    """The twin runs the one-level network on every halving of the picture and enlarges each map by itself."""
    model = light(image_pyramid_levels=levels)
    single = light()
    single.load_state_dict(model.state_dict())
    images = torch.randn(2, 3, 40, 72)  # its half has five by nine cells of a stride of 4, rounded up to three by five
    maps = model(images)
    for stage in range(2):
        sums: list[torch.Tensor | int] = [0, 0]
        for level in range(levels):
            small = images.unflatten(3, (-1, 2**level)).unflatten(2, (-1, 2**level)).mean(dim=(3, 5))
            for kind, each in enumerate(single._maps(small)):
                enlarged = F.interpolate(each[stage], scale_factor=2**level, mode="bilinear", align_corners=False)
                sums[kind] = sums[kind] + enlarged[:, :, :5, :9]
        for kind, each in enumerate(maps):
            torch.testing.assert_close(each[stage], sums[kind] / levels, rtol=1e-4, atol=1e-6)


def test_only_light_networks_have_an_image_pyramid() -> None:
    with pytest.raises(ModelFileError, match="image_pyramid_levels is 4"):
        build_from_architecture(light().architecture | {"image_pyramid_levels": 4}, ARROW)
    with pytest.raises(ModelFileError, match="BpNetLightModel has 1 to 3, others 1"):
        build_from_architecture(
            light().architecture | {"image_pyramid_levels": 2, "class_name": "BpNetLiteModel"}, ARROW
        )


def test_folded_batch_norms_change_nothing() -> None:
    model = light(image_pyramid_levels=2)
    for norm in (layer for layer in model.values() if isinstance(layer, nn.BatchNorm2d)):
        nn.init.normal_(norm.bias, std=0.1)
        nn.init.uniform_(norm.running_var, 0.5, 2)
    images = torch.randn(1, 3, 32, 64)
    before = model(images)
    fold_batch_norms(model)
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in model.values())
    torch.testing.assert_close(model(images).pafs[-1], before.pafs[-1], rtol=1e-4, atol=1e-5)


def test_a_stage_by_hand() -> None:
    model = light()
    x = torch.randn(1, 32, 5, 9)

    def brick(name: str, x: torch.Tensor) -> torch.Tensor:
        conv, norm = model[f"stage1/{name}_conv"], model[f"stage1/{name}_bn"]
        return norm(F.conv2d(x, conv.weight, padding=conv.kernel_size[0] // 2, groups=conv.groups))

    y = brick("entry", x).clamp(0, 6)
    y = (y + brick("mix1", brick("depthwise1", y).clamp(0, 6))).clamp(0, 6)
    heat, paf = model.stages[0](model, x)
    for maps, name, kind in ((heat, "cmap", "heat"), (paf, "paf", "paf")):
        out = model[f"stage1/{kind}_branch/out"]
        torch.testing.assert_close(maps, F.conv2d(brick(name, y).clamp(0, 6), out.weight, out.bias))


def test_rebuilt_from_its_description() -> None:
    model = light(output_stride=4)
    again = build_from_architecture(model.architecture, ARROW).eval()
    again.load_state_dict(model.state_dict())
    x = torch.randn(1, 3, 32, 64)
    assert torch.equal(again(x).pafs[-1], model(x).pafs[-1])
    wrong = model.architecture["channels"] | {"block_3a_depthwise_conv": 8}
    with pytest.raises(ModelFileError, match="depthwise layer 'block_3a_depthwise_conv' 8 channels, but 48 enter"):
        build_from_architecture(model.architecture | {"channels": wrong}, ARROW)
    with pytest.raises(ModelFileError, match="output_stride is 16"):
        build_from_architecture(model.architecture | {"output_stride": 16}, ARROW)


def published_names(model: BodyPoseNet) -> dict[str, torch.Tensor]:
    """The backbone's state dict as `efficientnet_lite_pytorch` names it, with values that tell layers apart."""
    names = {"stem_conv": "_conv_stem", "stem_bn": "_bn0"}
    for number, block in enumerate(lite0_blocks()):
        for place, part in enumerate(("expand", "depthwise", "project")):
            names |= {f"{block}_{part}_conv": f"_blocks.{number}._{part}_conv",
                      f"{block}_{part}_bn": f"_blocks.{number}._bn{place}"}  # fmt: skip
    state = {}
    for key, value in model.state_dict().items():
        layer, _, parameter = key.rpartition(".")
        if layer in names:
            state[f"{names[layer]}.{parameter}"] = torch.randn(value.shape) if value.ndim else value
    return state | {"_conv_head.weight": torch.zeros(8, 8, 1, 1), "_fc.weight": torch.zeros(2, 8)}


def test_imagenet_weights_are_loaded_by_name(tmp_path: Path) -> None:
    model = light()
    state = published_names(model)
    buffer = io.BytesIO()
    torch.save(state, buffer)
    (tmp_path / "lite0.pth").write_bytes(buffer.getvalue())
    report = load_pretrained(model, tmp_path / "lite0.pth")
    assert len(report.loaded) == 2 * (1 + 2 + 15 * 3)
    assert not report.skipped
    assert set(report.unused) == {"_conv_head", "_fc"}
    assert all(name.startswith(("fuse", "stage", "channel", "heatmap", "paf")) for name in report.missing)
    assert torch.equal(model["block_5c_project_bn"].running_var, state["_blocks.10._bn2.running_var"])
    assert torch.equal(model["block_1a_depthwise_conv"].weight, state["_blocks.0._depthwise_conv.weight"])


def test_every_layer_learns() -> None:
    model = light().train()
    maps = model(torch.randn(2, 3, 64, 64))
    torch.stack([m.square().sum() for m in maps.heatmaps + maps.pafs]).sum().backward()
    assert {name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum()} == set()


def test_depthwise_layers_belong_to_the_layer_they_filter() -> None:
    model = light(BODY_18)
    together = {frozenset(group) for group in model.elementwise_groups}
    assert frozenset({"block_1a_depthwise_conv", "stem_conv"}) in together
    assert frozenset({"block_6c_expand_conv", "block_6c_depthwise_conv"}) in together
    assert frozenset(f"block_6{letter}_project_conv" for letter in "abcd") in together
    assert sum(len(group) for group in together if any("project" in name for name in group)) == sum(
        repeats for repeats, *_ in LITE0_STAGES if repeats > 1
    )
    grouped = {name for group in together for name in group}
    assert all(name in grouped for name, conv in model.conv_layers().items() if conv.groups > 1)
