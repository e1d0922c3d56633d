"""The rules: values in, values out. No clock, environment, log, file or network."""
