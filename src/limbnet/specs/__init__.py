"""Spec files: their schemas, and the loader that turns mistakes into lines a user can act on."""
