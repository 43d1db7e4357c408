"""Running a model file on pictures: engines and the predictor."""
