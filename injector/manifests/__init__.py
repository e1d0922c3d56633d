"""Reads manifests with positions, and changes their text without serializing them again.

`documents` reads text into values with positions; `edit` changes the text. All rules are in the core.
"""
