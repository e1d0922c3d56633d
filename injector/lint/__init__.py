"""`lint`: finds problems in manifests before they reach a cluster.

A rule is data and a pure function. It gets plain values and returns problems with their paths, without files, positions
or options. `linter` reads documents one at a time and keeps only findings and small facts about Secrets, so a folder of
thousands of files needs little more memory than its largest document.

No finding contains a value of a variable, an annotation of Dapr or a Secret: messages show text of a file only through
`core.messages.redact`, and only the result of evaluating a Secret's value is kept.
"""
