"""Values and contracts that every other floor shares; standard library only."""
