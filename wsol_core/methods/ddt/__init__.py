"""DDT: pseudo boxes from image labels (WSFL 3.3.1)."""
