"""`wsol ablate`: the papers' tables, each row a DVC experiment."""
