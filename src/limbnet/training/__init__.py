"""Training: loss, optimiser, schedule, loop, checkpoints, validation."""
