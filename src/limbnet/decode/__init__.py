"""Decoding: from maps to people."""
