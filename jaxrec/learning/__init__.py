"""One training step and everything that drives it: losses, negatives, optimizers, checkpoints, training, personalisation."""
