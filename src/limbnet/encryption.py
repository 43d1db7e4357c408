"""Files with a key: AES-256-GCM in pieces, the key derived by scrypt.

Layout of a sealed file: a header of 63 bytes, then the content in pieces of one mebibyte, each followed by its tag of
16 bytes. The nonce of a piece is 7 random bytes, the piece's number, and a byte that marks the last one (the STREAM
construction of Hoang et al. 2015), so pieces can be neither changed, swapped, dropped nor added. The header is
authenticated with every piece.

    8 magic | 1 version | 1 log2 n | 1 r | 1 p | 16 salt | 7 nonce | 1 log2 piece | 1 zero | 16 key check | 10 checksum

The key check is a second output of scrypt: it tells a wrong key from a damaged file. The checksum (SHA-256 of what
stands before it, cut) needs no key and finds a damaged header. NVIDIA's own containers (`.tlt`, `.etlt`) are not
readable: their key derivation is not public.
"""

from __future__ import annotations

import hashlib
import secrets
import struct
from dataclasses import dataclass

from limbnet.errors import ModelFileError

MAGIC = b"LIMBSEAL"
VERSION = 1
TAG = 16
_FIELDS = struct.Struct("<8sBBBB16s7sBx16s")
_CHECKSUM = 10
HEADER = _FIELDS.size + _CHECKSUM

#: scrypt's cost: n = 2^15, r = 8, p = 3 (32 MiB, about a quarter of a second), as OWASP advises for passwords.
COST = (15, 8, 3)

#: A header from elsewhere may not ask for more memory (bytes) or more work (n * r * p) than this.
MOST_MEMORY, MOST_WORK = 2**28, 2**24

LOG2_PIECE = 20


@dataclass(frozen=True)
class _Header:
    version: int
    log2_n: int
    r: int
    p: int
    salt: bytes
    nonce: bytes
    log2_piece: int
    key_check: bytes

    def pack(self) -> bytes:
        fields = _FIELDS.pack(
            MAGIC, self.version, self.log2_n, self.r, self.p, self.salt, self.nonce, self.log2_piece, self.key_check
        )
        return fields + hashlib.sha256(fields).digest()[:_CHECKSUM]


def is_sealed(content: bytes) -> bool:
    """Tell whether `content`, or its first bytes, begin a sealed file."""
    return content[: len(MAGIC)] == MAGIC


def seal(content: bytes, key: str) -> bytes:
    """Encrypt `content` under `key`. Salt and nonce are random: the same content never gives the same bytes twice.

    Raises:
        ModelFileError: the key is empty.
    """
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    salt, nonce = secrets.token_bytes(16), secrets.token_bytes(7)
    secret, key_check = _derive(key, salt, COST)
    header = _Header(VERSION, *COST, salt, nonce, LOG2_PIECE, key_check).pack()
    cipher, size = AESGCM(secret), 1 << LOG2_PIECE
    starts = range(0, len(content), size) or range(1)  # nothing is one empty piece
    pieces = [
        cipher.encrypt(_nonce(nonce, number, last=start + size >= len(content)), content[start : start + size], header)
        for number, start in enumerate(starts)
    ]
    return b"".join((header, *pieces))


def open_sealed(content: bytes, key: str | None, name: str = "the file") -> bytes:
    """Decrypt what `seal` returned.

    Args:
        content: the sealed bytes.
        key: the key they were sealed with.
        name: how messages call the file.

    Raises:
        ModelFileError: there is no key, the key is wrong, a byte was changed, the end is missing, the file is not
            sealed, or a newer limbnet sealed it.
    """
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    header = _read_header(content, name)
    if not key:
        raise ModelFileError(f"{name} is encrypted.", "Give its key with -k KEY.")
    secret, key_check = _derive(key, header.salt, (header.log2_n, header.r, header.p))
    if not secrets.compare_digest(key_check, header.key_check):
        raise ModelFileError(f"The key does not open {name}.", "Give the key it was encrypted with (-k KEY).")
    cipher, size = AESGCM(secret), (1 << header.log2_piece) + TAG
    starts = range(HEADER, len(content), size)
    if not starts:
        raise ModelFileError(f"{name} is cut short: it ends after its header.", "Copy it again from where it came.")
    pieces = []
    for number, start in enumerate(starts):
        nonce = _nonce(header.nonce, number, last=start + size >= len(content))
        try:
            pieces.append(cipher.decrypt(nonce, content[start : start + size], content[:HEADER]))
        except (InvalidTag, ValueError):
            raise ModelFileError(
                f"{name} is damaged or cut short: the key is right, but the content after byte {start} has changed.",
                "Copy it again from where it came, or use an earlier file.",
            ) from None
    return b"".join(pieces)


def _read_header(content: bytes, name: str) -> _Header:
    """Take the header apart and refuse a damaged, newer or greedy one before any key is derived."""
    if not is_sealed(content):
        raise ModelFileError(f"{name} is not encrypted by limbnet.")
    if len(content) < HEADER:
        raise ModelFileError(f"{name} is cut short: it ends within its header.", "Copy it again from where it came.")
    fields, checksum = content[: _FIELDS.size], content[_FIELDS.size : HEADER]
    if hashlib.sha256(fields).digest()[:_CHECKSUM] != checksum:
        raise ModelFileError(f"{name} is damaged: its header has been changed.", "Copy it again from where it came.")
    header = _Header(*_FIELDS.unpack(fields)[1:])
    if header.version > VERSION:
        raise ModelFileError(
            f"{name} was encrypted by a newer limbnet (format {header.version}, this one knows {VERSION}).",
            "Upgrade: pip install --upgrade limbnet",
        )
    work = (1 << header.log2_n) * header.r * header.p
    if not (1 <= header.log2_n <= 24 and header.r and header.p and 128 * (1 << header.log2_n) * header.r <= MOST_MEMORY
            and work <= MOST_WORK and 10 <= header.log2_piece <= 28):  # fmt: skip
        raise ModelFileError(f"{name} asks for an unreasonable amount of work to derive its key, and was not opened.")
    return header


def _derive(key: str, salt: bytes, cost: tuple[int, int, int]) -> tuple[bytes, bytes]:
    """Return the AES key (32 bytes) and the key check (16 bytes)."""
    from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

    if not key:
        raise ModelFileError("The key is empty.", "Give a key of at least one character, or none for a plain file.")
    log2_n, r, p = cost
    derived = Scrypt(salt=salt, length=48, n=1 << log2_n, r=r, p=p).derive(key.encode())
    return derived[:32], derived[32:]


def _nonce(prefix: bytes, number: int, *, last: bool) -> bytes:
    return prefix + number.to_bytes(4, "big") + bytes([last])
