"""Questions about predictions: which of two is faster, which numbers matter, where does compression start to pay."""
