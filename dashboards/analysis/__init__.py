"""A frame of trials turned into numbers: pure functions that know no MLflow and no plot."""
