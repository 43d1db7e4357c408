"""Decoding: from maps to people. `bottomup.decode_maps` is the way in."""
