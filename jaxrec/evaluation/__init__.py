"""Exact whole-catalogue ranks for every model behind one Scorer protocol; metrics as sums that merge; groups, lists, intervals."""
