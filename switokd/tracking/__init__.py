"""MLflow: what goes into a tracking store (`tracker`) and what is read from it (`store`)."""
