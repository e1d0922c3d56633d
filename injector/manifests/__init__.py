"""Manifests as people wrote them: read with positions, changed by splices, never written anew.

`documents` reads text into values that know where they stand; `edit` changes the text around them. The rules are the
core's alone.
"""
