"""Bounded steps that look after a store; strangers to each other."""
