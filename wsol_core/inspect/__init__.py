"""A local web page over the pipeline's cached artifacts."""
