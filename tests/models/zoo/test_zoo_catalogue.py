"""The catalogue's numbers against the networks, the published values and the official state-dict lists."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import nn

from limbnet.errors import LimbnetError, UsageError
from limbnet.models.zoo import CATALOGUE, create_model, find
from limbnet.models.zoo.count import fingerprint, learnable_parameters, multiply_adds, parameters, shape_lines, shapes

#: SHA-256 (its start) of the official lines `name shape`, sorted and joined by line feeds, and the number of lines.
#: Made from the lists of the official modules with sort and sha256sum.
OFFICIAL = {
    "hrnet_w32_256x192": ("dc3031e5c7216310", 1754),
    "hrnet_w48_384x288": ("dbe2649ebd98de22", 1754),
    "transpose_r_a3_256x192": ("457c0d66e8145852", 190),
    "transpose_h_a6_256x192": ("54cb641d9eaa9e54", 1006),
    "naive_litehrnet_18_256x192": ("eb429bbe5424506b", 1610),
    "litehrnet_18_256x192": ("726c83858862f01e", 1418),
    "higherhrnet_w32_512": ("2570d0acc5532b3d", 1810),
    "dekr_w32_512": ("600765358cbc236d", 2264),
    "dekr_w48_640": ("b79e55a6802dea4a", 2264),
    "dekr_rescore_coco": ("d4b0eb69862086a4", 6),
    "openpose_body25": ("1045819d358ca42f", 327),
    "openpose_coco": ("1d6011e9f0f9ae3f", 184),
}
#: Networks that are HRNet under another training.
SAME = {
    "fpd_hrnet_w32_256x192": "hrnet_w32_256x192",
    "darkpose_hrnet_w32_256x192": "hrnet_w32_256x192",
    "darkpose_hrnet_w48_384x288": "hrnet_w48_384x288",
}
#: Outputs of each network at its input size, batch 1.
OUTPUTS = {
    "hrnet_w32_256x192": [(17, 64, 48)],
    "hrnet_w48_384x288": [(17, 96, 72)],
    "transpose_r_a3_256x192": [(17, 64, 48)],
    "transpose_h_a6_256x192": [(17, 64, 48)],
    "naive_litehrnet_18_256x192": [(17, 64, 48)],
    "litehrnet_18_256x192": [(17, 64, 48)],
    "higherhrnet_w32_512": [(34, 128, 128), (17, 256, 256)],
    "dekr_w32_512": [(18, 128, 128), (34, 128, 128)],
    "dekr_w48_640": [(18, 160, 160), (34, 160, 160)],
    "dekr_rescore_coco": [(1,)],
    "openpose_body25": [(26, 46, 62), (52, 46, 62)],
    "openpose_coco": [(19, 46, 62), (38, 46, 62)],
}
#: 1e9 multiply-adds counted on the official modules.
MEASURED = {
    "hrnet_w32_256x192": 7.645,
    "hrnet_w48_384x288": 35.307,
    "higherhrnet_w32_512": 46.203,
    "transpose_r_a3_256x192": 5.414,
    "transpose_h_a6_256x192": 21.282,
    "naive_litehrnet_18_256x192": 0.1855,
    "litehrnet_18_256x192": 0.1986,
    "openpose_body25": 108.60,
    "openpose_coco": 183.22,
}


def test_the_fifteen_networks_are_there() -> None:
    assert set(CATALOGUE) == set(OFFICIAL) | set(SAME)
    assert len(CATALOGUE) == 15


@pytest.mark.parametrize("name", OFFICIAL)
def test_network_has_the_official_names_shapes_and_counts(name: str) -> None:
    entry = CATALOGUE[name]
    network = create_model(name, device="meta")
    mark, entries = OFFICIAL[name]
    found = shapes(network.state_dict())
    assert fingerprint(found).startswith(mark)
    assert (entry.fingerprint, entry.entries) == (fingerprint(found), len(found))
    assert entry.entries == entries
    assert (parameters(network), learnable_parameters(network)) == (entry.parameters, entry.learnable)

    shape = (1, 74) if entry.input_size is None else (1, 3, *entry.input_size)
    images = torch.empty(shape, device="meta")
    assert multiply_adds(network, images) == entry.multiply_adds
    with torch.no_grad():
        outputs = network(images)
    assert [tuple(output.shape[1:]) for output in outputs] == OUTPUTS[name]


@pytest.mark.parametrize(("name", "twin"), SAME.items())
def test_hrnet_under_other_names_is_hrnet(name: str, twin: str) -> None:
    one, other = CATALOGUE[name], CATALOGUE[twin]
    for part in ("fingerprint", "entries", "parameters", "learnable", "multiply_adds", "input_size", "multiple"):
        assert getattr(one, part) == getattr(other, part)
    assert fingerprint(shapes(create_model(name, device="meta").state_dict())) == other.fingerprint


def test_names_and_shapes_are_those_of_the_official_lists(shared_data: Path) -> None:
    folder = shared_data.parent / "reference" / "zoo_state_dicts"
    if not folder.is_dir():
        pytest.skip("the official state-dict lists are not beside the checkout")
    lists = {path.stem: path for path in folder.glob("*.txt")}
    assert set(lists) == set(OFFICIAL)
    for name, path in lists.items():
        official = sorted(line for line in path.read_text().splitlines() if line)
        assert shape_lines(shapes(create_model(name, device="meta").state_dict())) == official


@pytest.mark.parametrize("name", MEASURED)
def test_multiply_adds_are_those_of_the_official_modules(name: str) -> None:
    digits = len(str(MEASURED[name]).partition(".")[2])
    assert round(CATALOGUE[name].multiply_adds / 1e9, digits) == MEASURED[name]


def test_published_gflops_come_out_by_the_stated_convention() -> None:
    upsampling = (
        66 * 32 * 16 * 256 * 256 - 66 * 32 * 16 * 128 * 128
    )  # HigherHRNet's 4x4 deconvolution, 66 to 32 channels
    for name, entry in CATALOGUE.items():
        published = entry.published
        ours = {
            "1e9": entry.multiply_adds / 1e9,
            "1024^3": entry.multiply_adds / 1024**3,
            "1e9, transposed convolution at its output size": (entry.multiply_adds + upsampling) / 1e9,
        }
        assert (published.gflops is None) == (published.convention == ""), name
        if published.convention in ours:
            assert ours[published.convention] == pytest.approx(published.gflops, abs=0.05), name


def test_dekr_counts_its_deformable_convolutions_but_not_its_affine_maps() -> None:
    """The official modules count 45.405 and 141.558; they compute the taps' places with matrix products, 2x2 by 2x9."""
    for name, official, cells in (("dekr_w32_512", 45.405, 128**2), ("dekr_w48_640", 141.558, 160**2)):
        places = cells * 2 * 17 * 2 * 2 * 9
        assert round((CATALOGUE[name].multiply_adds + places) / 1e9, 3) == official
    network = create_model("dekr_w48_640", input_size=(512, 512), device="meta")
    at_512 = multiply_adds(network, torch.empty(1, 3, 512, 512, device="meta"))
    assert round((at_512 + 128**2 * 2 * 17 * 36) / 1e9, 2) == 90.60


def test_counter_against_counts_by_hand() -> None:
    network = nn.Sequential(
        nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2),  # 5x7 from 10x14: 6 x 2 x 9 x 35
        nn.ConvTranspose2d(6, 5, 4, 2, 1),  # from 5x7: 6 x 5 x 16 x 35
        nn.Flatten(2),
        nn.Linear(140, 3),  # 5 rows of 140 x 3
    )
    with_training = network.train()
    assert multiply_adds(with_training, torch.zeros(1, 4, 10, 14)) == 6 * 2 * 9 * 35 + 6 * 5 * 16 * 35 + 5 * 140 * 3
    assert with_training.training


def test_every_entry_is_complete() -> None:
    for name, entry in CATALOGUE.items():
        assert entry.name == name == find(name).name
        assert entry.files
        assert entry.licence
        assert entry.prefixes
        if entry.input_size is not None:
            assert all(side % entry.multiple == 0 for side in entry.input_size)


def test_same_seed_same_weights_and_torchs_generator_is_left_alone() -> None:
    torch.manual_seed(7)
    expected = torch.rand(1)
    torch.manual_seed(7)
    one = create_model("litehrnet_18_256x192", seed=3).state_dict()
    assert torch.equal(torch.rand(1), expected)
    again = create_model("litehrnet_18_256x192", seed=3).state_dict()
    other = create_model("litehrnet_18_256x192", seed=4).state_dict()
    assert all(torch.equal(one[name], again[name]) for name in one)
    weight = "backbone.stem.conv1.conv.weight"
    assert not torch.equal(one[weight], other[weight])


@pytest.mark.parametrize("name", ["hrnet_w32_256x192", "naive_litehrnet_18_256x192", "dekr_w32_512", "openpose_coco"])
def test_initial_weights_keep_activations_in_range(name: str) -> None:
    """Within FP16's range, and far from its denormal numbers."""
    network = create_model(name)
    peaks = []

    def watch(_module: nn.Module, _inputs: object, output: torch.Tensor) -> None:
        peaks.append(float(output.abs().max()))

    for module in network.modules():
        # DEKR's taps start without stretch and move, as published: their convolutions are zero.
        if isinstance(module, nn.BatchNorm2d | nn.Conv2d) and module.weight.any():
            module.register_forward_hook(watch)
    with torch.no_grad():
        network(torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0)))
    assert len(peaks) > 90
    assert max(peaks) < 20_000
    assert min(peaks) > 1e-3


@pytest.mark.parametrize(
    ("name", "joints", "expected"),
    [
        ("hrnet_w32_256x192", 5, [5]),
        ("litehrnet_18_256x192", 21, [21]),
        ("transpose_r_a3_256x192", 5, [5]),
        ("higherhrnet_w32_512", 4, [8, 4]),
        ("dekr_w32_512", 3, [4, 6]),
    ],
)
def test_any_number_of_joints(name: str, joints: int, expected: list[int]) -> None:
    network = create_model(name, joints=joints, device="meta")
    size = CATALOGUE[name].input_size
    assert size is not None
    outputs = network(torch.empty(1, 3, *size, device="meta"))
    assert [output.shape[1] for output in outputs] == expected


def test_transpose_takes_the_size_it_is_built_for() -> None:
    network = create_model("transpose_r_a3_256x192", input_size=(64, 96))
    with torch.no_grad():
        assert network(torch.zeros(1, 3, 64, 96)).heatmaps.shape == (1, 17, 16, 24)
        with pytest.raises(LimbnetError, match="built for maps of 96 cells, but got 16 x 12"):
            network(torch.zeros(1, 3, 128, 96))


def test_mistakes_are_named() -> None:
    with pytest.raises(UsageError, match="Did you mean 'dekr_w48_640'"):
        create_model("dekr_w48")
    with pytest.raises(UsageError, match=r"18 joints .* has 25 .*; .*360 x 500 .* multiples of 8"):
        create_model("openpose_body25", joints=18, input_size=(360, 500))
    with pytest.raises(UsageError, match="at least one"):
        create_model("hrnet_w32_256x192", joints=0)
    with pytest.raises(UsageError, match="takes no picture"):
        create_model("dekr_rescore_coco", input_size=(256, 256))


def test_position_embedding_needs_no_gradient() -> None:
    network = create_model("transpose_h_a6_256x192", device="meta")
    fixed = [name for name, parameter in network.named_parameters() if not parameter.requires_grad]
    assert fixed == ["pos_embedding"]
    assert math.prod(network.get_parameter("pos_embedding").shape) == 64 * 48 * 96
