"""What `switokd.tracking.store` reads, as DataFrames, and how long they are kept."""
