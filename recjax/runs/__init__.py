"""What a run leaves behind: record, plots, reports, published numbers."""
