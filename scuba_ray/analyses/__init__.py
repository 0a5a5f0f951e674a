"""Analyses: a finished run's tables in, one tidy table out. Each is a class that takes the run's configuration."""
