"""Running published networks on pictures: one estimator for each kind of head, `open_zoo` to get one by name."""
