"""Sweeps: many runs of one question, carried out and compared."""
