"""Modules: one paper, one file, one class of the paper's name."""
