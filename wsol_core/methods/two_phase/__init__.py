"""Two-Phase learning: suppression, merged heat maps, gradient saliency."""
