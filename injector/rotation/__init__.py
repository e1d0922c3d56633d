"""Everything between "these Secrets" and "these workloads run the new value", without a terminal."""
