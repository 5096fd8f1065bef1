"""Experiments: resumable cells, and the lists of cells that commands run."""
