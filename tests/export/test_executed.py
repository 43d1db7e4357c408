"""The INT8 share is what the runtime executes, not what the file says."""

from __future__ import annotations

import pytest

from limbnet.export.executed import multiply_adds, share_in_onnxruntime, share_in_openvino, shares
from limbnet.export.quantise import head_layers, quantise
from limbnet.models.counting import count_cost


def test_multiply_adds_are_those_of_torch_up_to_a_factor(model, network) -> None:
    counts, expected = multiply_adds(network.model), count_cost(model, (64, 96)).by_layer
    factors = {expected[layer] / count for layer, count in counts.items()}
    assert set(counts) == {name for name, count in expected.items() if name in model.conv_layers()}
    assert factors == {8 * 12}  # the map's cells


@pytest.mark.parametrize("count", [share_in_onnxruntime, share_in_openvino])
def test_heads_alone_stay_in_float(network, int8_network, count) -> None:
    heads = head_layers(network.model)
    counts = multiply_adds(network.model)
    found = count(int8_network.model)
    assert sorted(found.float_layers) == sorted(heads)
    assert found.share == pytest.approx(1 - sum(counts[name] for name in heads) / sum(counts.values()))
    assert found.share > 0.9


@pytest.mark.parametrize("count", [share_in_onnxruntime, share_in_openvino])
def test_a_float_file_has_no_share(network, count) -> None:
    assert count(network.model).share == 0


def test_every_layer_can_be_int8(network, ranges) -> None:
    for found in shares(quantise(network.model, ranges, ())):
        # The last two return float maps; they may run in float whatever their inputs are.
        assert set(found.float_layers) <= {"heatmap_out", "paf_out"}, found
