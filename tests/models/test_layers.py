"""Convolutions padded as TensorFlow pads them, against a plain loop."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from limbnet.models.layers import LopsidedMaxPool2d, same_conv, same_padding, scaled


def slow_same_conv(x, kernel, stride, dilation):
    """Convolve (C, H, W) with (O, C, k, k), padded by TensorFlow's rule for "SAME": output ceil(size / stride)."""
    out_channels, _, size, _ = kernel.shape
    reach = dilation * (size - 1) + 1
    out_h, out_w = (-(-side // stride) for side in x.shape[1:])
    tops = []
    for side, out in zip(x.shape[1:], (out_h, out_w), strict=True):
        tops.append(max((out - 1) * stride + reach - side, 0) // 2)
    result = np.zeros((out_channels, out_h, out_w))
    for o, row, column in np.ndindex(result.shape):
        for c, ky, kx in np.ndindex(kernel.shape[1:]):
            y = row * stride + ky * dilation - tops[0]
            z = column * stride + kx * dilation - tops[1]
            if 0 <= y < x.shape[1] and 0 <= z < x.shape[2]:
                result[o, row, column] += kernel[o, c, ky, kx] * x[c, y, z]
    return result


@settings(max_examples=40, deadline=None)
@given(
    kernel=st.sampled_from([1, 3, 5, 7]),
    stride=st.sampled_from([1, 2]),
    dilation=st.sampled_from([1, 2]),
    height=st.integers(1, 5),
    width=st.integers(1, 5),
    seed=st.integers(0, 999),
)
def test_same_conv_equals_tensorflows_rule(kernel, stride, dilation, height, width, seed):
    torch.manual_seed(seed)
    conv = same_conv(2, 3, kernel, stride=stride, dilation=dilation, bias=False).double()
    x = torch.randn(1, 2, height * stride, width * stride, dtype=torch.float64)
    expected = slow_same_conv(x[0].numpy(), conv.weight.detach().numpy(), stride, dilation)
    np.testing.assert_allclose(conv(x)[0].detach().numpy(), expected, atol=1e-12)


def test_odd_pixel_of_padding_goes_after():
    conv = same_conv(1, 1, 3, stride=2, bias=False)
    torch.nn.init.ones_(conv.weight)
    # The windows start at pixels 0 and 2; the last one hangs over the right and lower edge.
    assert conv(torch.ones(1, 1, 4, 4)).tolist() == [[[[9.0, 6.0], [6.0, 4.0]]]]


@pytest.mark.parametrize(
    ("kernel", "stride", "dilation", "padding"),
    [(3, 1, 1, (1, 1)), (3, 2, 1, (0, 1)), (7, 1, 1, (3, 3)), (7, 2, 1, (2, 3)), (7, 1, 2, (6, 6)), (1, 2, 1, (0, 0))],
)
def test_padding_amounts(kernel, stride, dilation, padding):
    assert same_padding(kernel, stride, dilation) == padding


def test_max_pool_takes_windows_from_the_first_pixel():
    x = torch.arange(16.0).view(1, 1, 4, 4)
    assert LopsidedMaxPool2d(3, 2)(x).tolist() == [[[[10.0, 11.0], [14.0, 15.0]]]]


@pytest.mark.parametrize(
    ("channels", "width", "expected"), [(128, 1, 128), (128, 0.3, 40), (64, 0.01, 8), (512, 2, 1024)]
)
def test_scaled_widths_are_multiples_of_eight(channels, width, expected):
    assert scaled(channels, width) == expected
