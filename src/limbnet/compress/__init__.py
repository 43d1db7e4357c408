"""Compression: prune, retrain and quantise until a budget is met, and keep what was measured on the way."""
