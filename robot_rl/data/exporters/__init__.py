"""Writers of other projects' dataset formats."""
