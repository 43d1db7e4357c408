"""Measuring speed: everything that is compared runs in turn, so that a busy machine hurts all alike."""
