"""Published networks in training: their data, losses, files and validation."""
