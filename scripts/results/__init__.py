"""Tables and the forest plot of docs/explanation/results, made from the stored evaluations."""
