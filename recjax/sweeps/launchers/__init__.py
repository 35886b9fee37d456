"""Where the trials of a sweep run: processes here, Ray, or SLURM."""
