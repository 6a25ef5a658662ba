"""Reward functions: found by name, called in TRL's convention, checked, and added up."""
