"""Is a dataset fit to learn from? `diagnose` checks, `report` and `html` show it, `fix` mends what it can."""
