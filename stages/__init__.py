"""A thin script per stage of the pipeline."""
