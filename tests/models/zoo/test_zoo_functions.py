"""Every network against its slow twin: same weights, same input, FP64."""

from __future__ import annotations

import pytest
import torch
import zoo_more_twins as more
import zoo_twins as twins
from zoo_lively import enliven

from limbnet.models.zoo import CATALOGUE, create_model

#: Network: its twin and a small input (height, width), not square so that mixed-up axes show.
TWINS = {
    "hrnet_w32_256x192": (twins.hrnet, (32, 64)),
    "hrnet_w48_384x288": (twins.hrnet, (64, 32)),
    "transpose_r_a3_256x192": (twins.transpose_r, (32, 48)),
    "transpose_h_a6_256x192": (twins.transpose_h, (32, 48)),
    "naive_litehrnet_18_256x192": (more.litehrnet, (64, 96)),
    "litehrnet_18_256x192": (more.litehrnet, (64, 96)),
    "higherhrnet_w32_512": (twins.higherhrnet, (32, 64)),
    "dekr_w32_512": (more.dekr, (32, 64)),
    "dekr_w48_640": (more.dekr, (64, 32)),
    "dekr_rescore_coco": (more.rescore, None),
    "openpose_body25": (more.body25, (32, 48)),
    "openpose_coco": (more.openpose_coco, (32, 48)),
}


@pytest.mark.parametrize("name", TWINS)
def test_network_agrees_with_its_twin(name: str) -> None:
    twin, size = TWINS[name]
    network = enliven(create_model(name, input_size=size if name.startswith("transpose") else None)).double()
    generator = torch.Generator().manual_seed(1)
    shape = (2, 74) if size is None else (2, 3, *size)
    inputs = torch.randn(shape, dtype=torch.float64, generator=generator)
    with torch.no_grad():
        found = network(inputs)
        expected = twin(network.state_dict(), inputs)
    assert len(found) == len(expected)
    for mine, theirs in zip(found, expected, strict=True):
        assert mine.shape == theirs.shape
        scale = theirs.abs().max()
        assert 1e-3 < scale < 1e9, "weights that say nothing prove nothing"
        assert (mine - theirs).abs().max() <= 1e-11 * scale


def test_other_names_are_the_same_architectures() -> None:
    tested = {CATALOGUE[name].fingerprint for name in TWINS}
    for name in set(CATALOGUE) - set(TWINS):
        assert CATALOGUE[name].fingerprint in tested
        assert CATALOGUE[name].system.endswith(("HRNet-W32", "HRNet-W48"))
