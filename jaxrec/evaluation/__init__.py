"""Exact whole-catalogue ranks for every model behind one Scorer protocol, metrics as sums that merge, comparison by user."""
