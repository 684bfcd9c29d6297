"""Ground truth as training targets and objectness, for upper bounds."""
