"""MLflow: every read in `store`, every write in `tracker`. No torch here."""
