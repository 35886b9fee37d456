"""Config as plain values, without gin."""
