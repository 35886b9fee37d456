"""Sources of interactions: one module a kind of data set."""
