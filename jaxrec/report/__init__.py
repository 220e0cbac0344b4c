"""Tables, plots and one self-contained page about a run."""
