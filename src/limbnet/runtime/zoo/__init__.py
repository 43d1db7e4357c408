"""Published networks on pictures: an estimator for each kind of head; `load.load_zoo_estimator` gets one by name."""
