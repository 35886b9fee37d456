"""A model, a loss and its labels."""
