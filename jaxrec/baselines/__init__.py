"""Models without a network that a personal model has to beat; each is a Scorer."""
