"""Mesh, state, step, checkpoint and loop."""
