"""How a cluster file names the models of the core and their parameters."""
