"""Sealed files open with their key alone, and only as they were written."""

from __future__ import annotations

import hashlib
import random

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from limbnet.encryption import COST, HEADER, LOG2_PIECE, MAGIC, is_sealed, open_sealed, seal
from limbnet.errors import ModelFileError

PIECE = 1 << LOG2_PIECE


@pytest.fixture(scope="module")
def content() -> bytes:
    return random.Random(0).randbytes(2 * PIECE + 5)


@pytest.fixture(scope="module")
def sealed(content) -> bytes:
    return seal(content, "nvidia_tlt")


@pytest.mark.parametrize("size", [0, 1, PIECE - 1, PIECE, PIECE + 1, 2 * PIECE])
def test_round_trip(content, size):
    hidden = seal(content[:size], "Schlüssel")
    assert is_sealed(hidden)
    assert is_sealed(hidden[:20])
    assert open_sealed(hidden, "Schlüssel") == content[:size]


def test_layout_is_the_documented_one(content):
    """Open a sealed file with nothing but the module's first lines in hand."""
    hidden = seal(content[: PIECE + 3], "key")
    assert hidden[:12] == MAGIC + bytes([1, 15, 8, 3])
    salt, prefix = hidden[12:28], hidden[28:35]
    assert hidden[35:37] == bytes([20, 0])
    derived = Scrypt(salt=salt, length=48, n=2**15, r=8, p=3).derive(b"key")
    assert hidden[37:53] == derived[32:]
    assert hidden[53:63] == hashlib.sha256(hidden[:53]).digest()[:10]
    cipher = AESGCM(derived[:32])
    first = cipher.decrypt(prefix + b"\0\0\0\0\0", hidden[63 : 63 + PIECE + 16], hidden[:63])
    second = cipher.decrypt(prefix + b"\0\0\0\1\1", hidden[63 + PIECE + 16 :], hidden[:63])
    assert first + second == content[: PIECE + 3]


def test_nothing_is_sealed_alike_twice():
    assert seal(b"same", "key") != seal(b"same", "key")


def test_wrong_missing_and_empty_keys(sealed):
    with pytest.raises(ModelFileError, match=r"key does not open 'x.tlt'"):
        open_sealed(sealed, "nvidia-tlt", "'x.tlt'")
    for none in (None, ""):
        with pytest.raises(ModelFileError, match=r"'x.tlt' is encrypted"):
            open_sealed(sealed, none, "'x.tlt'")
    with pytest.raises(ModelFileError, match="key is empty"):
        seal(b"content", "")


def test_each_changed_byte_of_the_header_is_found(sealed):
    for place in range(HEADER):
        damaged = bytearray(sealed[: HEADER + 40])
        damaged[place] ^= 0x10
        with pytest.raises(ModelFileError, match=r"damaged|not encrypted by limbnet"):
            open_sealed(bytes(damaged), "nvidia_tlt")


def test_changed_bytes_of_the_content_are_found(sealed):
    for place in (HEADER, HEADER + PIECE + 3, len(sealed) - 1):
        damaged = bytearray(sealed)
        damaged[place] ^= 1
        with pytest.raises(ModelFileError, match="the key is right"):
            open_sealed(bytes(damaged), "nvidia_tlt")


def test_dropped_swapped_and_added_pieces_are_found(sealed):
    step = PIECE + 16
    head, first, second, last = (
        sealed[:HEADER],
        *(sealed[HEADER + i * step : HEADER + (i + 1) * step] for i in range(3)),
    )
    for forged in (
        head + first + second,
        head + first,
        head + second + first + last,
        head + first + last,
        sealed + last,
    ):
        with pytest.raises(ModelFileError, match="the key is right"):
            open_sealed(forged, "nvidia_tlt")
    for length in (9, HEADER - 1, HEADER):
        with pytest.raises(ModelFileError, match="cut short"):
            open_sealed(sealed[:length], "nvidia_tlt")


def rewritten(sealed, place, value):
    """Change a header byte and make the checksum right again, as an attacker would."""
    fields = bytearray(sealed[:53])
    fields[place] = value
    return bytes(fields) + hashlib.sha256(fields).digest()[:10] + sealed[HEADER:]


def test_untrusted_headers_cannot_ask_for_endless_work(sealed):
    for place, value in ((9, 40), (9, 24), (9, 0), (10, 255), (11, 255), (11, 0), (35, 60)):
        with pytest.raises(ModelFileError, match="unreasonable"):
            open_sealed(rewritten(sealed, place, value), "nvidia_tlt")


def test_newer_formats_ask_for_an_upgrade(sealed):
    with pytest.raises(ModelFileError, match="newer limbnet") as caught:
        open_sealed(rewritten(sealed, 8, 2), "nvidia_tlt")
    assert "pip install --upgrade limbnet" in str(caught.value)


def test_cost_is_what_owasp_advises():
    assert COST == (15, 8, 3)


def test_plain_content_is_not_sealed():
    assert not is_sealed(b"plain")
    with pytest.raises(ModelFileError, match="not encrypted"):
        open_sealed(b"plain", "key")
