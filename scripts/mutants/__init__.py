"""Mutation testing: known faults are put into the source one at a time; tests must notice each."""
