"""`wsol evaluate`: other people's outputs, read, measured and reported without the pipeline."""
