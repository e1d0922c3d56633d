"""The rules, by theme. `catalogue.RULES` has them all."""
