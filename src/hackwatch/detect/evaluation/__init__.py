"""How good a detector is: measures, plots and the report."""
