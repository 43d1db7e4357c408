"""The odd blocks one by one: properties, values by hand, and the slow twins on inputs of any shape."""

from __future__ import annotations

import math

import pytest
import torch
import zoo_more_twins as more
import zoo_twins as twins
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F
from zoo_lively import enliven

from limbnet.models.zoo.blocks import channel_shuffle
from limbnet.models.zoo.dekr import AdaptiveBlock, DeformableConvolution, regular_taps, sample_taps
from limbnet.models.zoo.hrnet import ExchangeModule
from limbnet.models.zoo.litehrnet import CrossResolutionWeighting, LiteModule
from limbnet.models.zoo.transpose import Encoder, position_embedding

sizes = st.tuples(st.integers(1, 6), st.integers(1, 6))
seeds = st.integers(0, 2**31)


def random(seed: int, *shape: int, scale: float = 1.0) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)) * scale


def close(one: Tensor, other: Tensor, tolerance: float = 1e-12) -> None:
    assert one.shape == other.shape
    assert (one - other).abs().max() <= tolerance * (1 + other.abs().max())


def test_regular_taps_are_the_published_matrix() -> None:
    assert regular_taps().tolist() == [[-1, -1, -1, 0, 0, 0, 1, 1, 1], [-1, 0, 1, -1, 0, 1, -1, 0, 1]]


@settings(max_examples=30, deadline=None)
@given(sizes, seeds, st.floats(0, 5))
def test_deformable_convolution_agrees_with_loops(size: tuple[int, int], seed: int, reach: float) -> None:
    convolution = DeformableConvolution(2, 3).double()
    features = random(seed, 2, 2, *size)
    places = random(seed + 1, 2, 2, 9, *size, scale=reach)
    offsets = (places - regular_taps()[None, :, :, None, None]).transpose(1, 2).flatten(1, 2)  # y, x per tap
    with torch.no_grad():
        close(convolution(features, places), more.deformable_conv(features, convolution.weight, offsets))


@settings(max_examples=30, deadline=None)
@given(sizes, seeds, st.integers(-3, 3), st.integers(-3, 3))
def test_whole_moves_of_the_regular_grid_move_a_plain_convolution(
    size: tuple[int, int], seed: int, down: int, right: int
) -> None:
    convolution = DeformableConvolution(3, 2).double()
    features = random(seed, 1, 3, *size)
    move = torch.tensor([down, right], dtype=torch.float64)
    places = (regular_taps() + move[:, None])[None, :, :, None, None].expand(1, 2, 9, *size)
    with torch.no_grad():
        # Every cell reads what the plain convolution reads `down` rows below and `right` columns to its right.
        wide = F.conv2d(F.pad(features, (4, 4, 4, 4)), convolution.weight)
        top, left = 3 + down, 3 + right
        expected = wide[:, :, top : top + size[0], left : left + size[1]]
        close(convolution(features, places), expected)


def test_sampling_by_hand() -> None:
    features = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])
    places = torch.zeros(1, 2, 1, 2, 2)
    places[0, :, 0, 0, 0] = torch.tensor([0.5, 0.5])  # the middle of all four
    places[0, :, 0, 0, 1] = torch.tensor([0.0, 0.5])  # half outside: 2 / 2
    places[0, :, 0, 1, 0] = torch.tensor([-0.25, 0.0])  # a quarter up: 3 - 0.5
    places[0, :, 0, 1, 1] = torch.tensor([1.0, 0.0])  # outside
    found = sample_taps(features, places)[0, 0, 0]
    assert found.flatten().tolist() == pytest.approx([2.5, 1.0, 2.5, 0.0], abs=1e-6)


@settings(max_examples=15, deadline=None)
@given(sizes, seeds)
def test_adaptive_block_agrees_with_loops(size: tuple[int, int], seed: int) -> None:
    block = enliven(AdaptiveBlock(4), seed % 1000).double()
    features = random(seed, 1, 4, *size)
    with torch.no_grad():
        state = {f"b.{name}": tensor for name, tensor in block.state_dict().items()}
        close(block(features), more.adaptive_block(state, "b", features))


def test_identity_affine_map_makes_a_plain_residual_convolution() -> None:
    block = AdaptiveBlock(3).double().eval()
    for part in (block.transform_matrix_conv, block.translation_conv):
        torch.nn.init.zeros_(part.weight)
        torch.nn.init.zeros_(part.bias)
    block.transform_matrix_conv.bias.data[:] = torch.tensor([1.0, 0.0, 0.0, 1.0])
    features = random(0, 2, 3, 5, 7)
    with torch.no_grad():
        plain = F.conv2d(features, block.adapt_conv.weight, padding=1)
        close(block(features), F.relu(block.bn(plain) + features))


def test_channel_shuffle_by_hand() -> None:
    features = torch.arange(6.0).reshape(1, 6, 1, 1)
    assert channel_shuffle(features).flatten().tolist() == [0, 3, 1, 4, 2, 5]


@settings(max_examples=10, deadline=None)
@given(st.sampled_from(["weighting", "shuffle"]), st.integers(2, 4), st.booleans(), seeds)
def test_lite_module_agrees_with_the_loop_in_place(unit: str, branches: int, wide: bool, seed: int) -> None:
    widths = [8 * 2**branch for branch in range(branches)]
    module = enliven(LiteModule(widths, unit), seed % 1000).double()
    lowest = 2 ** (branches - 1)
    inputs = [
        random(seed + branch, 2, width, lowest * (1 + wide) >> branch, lowest * 2 >> branch)
        for branch, width in enumerate(widths)
    ]
    state = module.state_dict()
    with torch.no_grad():
        found = module(inputs)
        expected = list(inputs)
        for block in range(2):
            if unit == "weighting":
                expected = more.channel_weighting(state, f"layers.{block}", expected)
            else:
                names = [f"layers.{branch}.{block}" for branch in range(branches)]
                expected = [more.shuffle_unit(state, *pair) for pair in zip(names, expected, strict=True)]
        for mine, theirs in zip(found, more.lite_fuse(state, "fuse_layers", expected), strict=True):
            close(mine, theirs)


def test_lite_fuse_differs_from_hrnets() -> None:
    """With every way through the fuse step silent, branch 0 comes out doubled and the others as they are."""
    module = LiteModule([4, 8], "shuffle").eval()
    for path in module.fuse_layers.modules():
        if isinstance(path, torch.nn.BatchNorm2d):
            torch.nn.init.zeros_(path.weight)
    branches = [torch.rand(1, 4, 4, 4), torch.rand(1, 8, 2, 2)]
    with torch.no_grad():
        first, second = module.fused(branches)
    assert torch.equal(first, 2 * branches[0])
    assert torch.equal(second, branches[1])


def test_lite_fuse_reads_branch_0_after_it_was_changed() -> None:
    """Branch 1 of two receives 2 f(2 x0 + g(x1)) + x1, not f(x0) + x1."""
    module = enliven(LiteModule([4, 8], "shuffle")).double()
    x0, x1 = random(0, 1, 4, 4, 4), random(1, 1, 8, 2, 2)
    up, down = module.fuse_layers[0][1], module.fuse_layers[1][0]
    with torch.no_grad():
        changed = 2 * x0 + up(x1)
        first, second = module.fused([x0, x1])
        close(first, F.relu(changed))
        close(second, F.relu(2 * down(changed) + x1))
        assert (second - F.relu(down(x0) + x1)).abs().max() > 0.1


@settings(max_examples=10, deadline=None)
@given(seeds, st.integers(1, 3), st.integers(1, 3))
def test_cross_resolution_weighting_agrees_with_loops(seed: int, height: int, width: int) -> None:
    widths = [8, 16, 32]
    block = enliven(CrossResolutionWeighting(widths), seed % 1000).double()
    inputs = [random(seed + b, 2, w, height * 4 >> b, width * 4 >> b) for b, w in enumerate(widths)]
    state = {f"c.{name}": tensor for name, tensor in block.state_dict().items()}
    with torch.no_grad():
        for mine, theirs in zip(block(inputs), more.cross_resolution_weighting(state, "c", inputs), strict=True):
            close(mine, theirs)


@settings(max_examples=5, deadline=None)
@given(seeds, st.integers(2, 4), st.integers(1, 4))
def test_hrnet_module_agrees_with_its_twin(seed: int, branches: int, outputs: int) -> None:
    widths = [4 * 2**branch for branch in range(branches)]
    module = enliven(ExchangeModule(widths, min(outputs, branches)), seed % 1000).double()
    inputs = [random(seed + b, 1, w, 8 >> b, 16 >> b) for b, w in enumerate(widths)]
    state = {f"m.{name}": tensor for name, tensor in module.state_dict().items()}
    with torch.no_grad():
        found, expected = module(inputs), twins.hrnet_module(state, "m", inputs)
        assert len(found) == len(expected) == min(outputs, branches)
        for mine, theirs in zip(found, expected, strict=True):
            close(mine, theirs)


@pytest.mark.parametrize(("height", "width", "channels"), [(32, 24, 256), (64, 48, 96), (1, 3, 8), (5, 1, 4)])
def test_position_embedding_agrees_with_loops(height: int, width: int, channels: int) -> None:
    expected = twins.position_embedding(height, width, channels)
    found = position_embedding((height, width), channels)
    assert found.dtype == torch.float32
    assert (found.double() - expected).abs().max() < 2e-6  # FP32 angles up to 2 pi


def test_position_embedding_by_hand() -> None:
    """Cell (row 2 of 4, column 3 of 6), four channels a direction: both stand at half, so both halves are equal."""
    cell = position_embedding((4, 6), 8)[1 * 6 + 2, 0]
    expected = [math.sin(math.pi), math.cos(math.pi), math.sin(math.pi / 100), math.cos(math.pi / 100)]
    assert cell.tolist() == pytest.approx(expected * 2, abs=1e-5)


@settings(max_examples=10, deadline=None)
@given(seeds, st.sampled_from([1, 2, 4]), st.integers(1, 2))
def test_encoder_agrees_with_attention_written_out(seed: int, heads: int, layers: int) -> None:
    encoder = enliven(Encoder(layers, 8, 12, heads), seed % 1000).double()
    positions = position_embedding((3, 4), 8).double()
    features = random(seed, 2, 8, 3, 4)
    state = {f"global_encoder.{name}": tensor for name, tensor in encoder.state_dict().items()}
    state["pos_embedding"] = positions
    with torch.no_grad():
        close(encoder(features, positions), twins.encoder(state, features, heads))


def test_dropout_acts_in_training_only() -> None:
    encoder = Encoder(1, 8, 12, 1)
    positions, features = position_embedding((2, 2), 8), torch.rand(1, 8, 2, 2)
    encoder.eval()
    assert torch.equal(encoder(features, positions), encoder(features, positions))
    encoder.train()
    torch.manual_seed(0)
    assert not torch.equal(encoder(features, positions), encoder(features, positions))


def test_all_networks_pass_gradients_to_every_learnable_parameter() -> None:
    """What cannot learn is not wired in; the smallest network of each family stands for it."""
    from limbnet.models.zoo import create_model

    for name in ("litehrnet_18_256x192", "naive_litehrnet_18_256x192", "dekr_w32_512", "higherhrnet_w32_512"):
        network = enliven(create_model(name)).train()
        sum(output.square().sum() for output in network(torch.randn(2, 3, 64, 64))).backward()
        silent = [key for key, parameter in network.named_parameters() if parameter.grad is None]
        assert not silent, name
