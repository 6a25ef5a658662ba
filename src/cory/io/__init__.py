"""Files, terminals, signals, and the errors that a command ends with."""
