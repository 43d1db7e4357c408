"""Training data of published networks: their samples, random changes, targets and batches."""
