"""Manifests as people wrote them: read with positions, changed by splices, never serialized again.

`documents` reads text into values with their positions; `edit` changes the text around them. The rules are the
core's alone.
"""
