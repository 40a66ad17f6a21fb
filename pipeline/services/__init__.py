"""The processes: each wires stages together and owns their lifetimes."""
