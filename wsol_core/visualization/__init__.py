"""Contact sheets and what is drawn on them."""
