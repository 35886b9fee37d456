"""Embedding tables: what they are and how rows are read."""
