"""What several ops share; no op is imported from here. Modules are imported by their names, this package holds none."""
