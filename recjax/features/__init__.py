"""What a column is, and how it is encoded."""
