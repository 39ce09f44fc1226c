"""The speed and size bars of the project, measured side by side with peers in one run.

`python -m bench` from the project's root starts holdfast, nginx and SeaweedFS on free loopback
ports, drives all of them with one generator (load.c), in turn A B B A, and prints medians as
ratios. Everything it needs and makes stays under bench/.work, which may be removed at any time.
"""
