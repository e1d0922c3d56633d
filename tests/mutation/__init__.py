"""Mutation testing of the rules: every small change of them must be noticed by a test."""
