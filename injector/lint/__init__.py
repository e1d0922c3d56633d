"""`lint`: what is wrong with manifests before anything reaches a cluster.

A rule is data and a pure function. It gets plain values and says what is wrong at which path; it never sees a file, a
position or an option. `linter` reads documents one at a time, keeps findings and small facts about Secrets, and drops
the rest: a folder of thousands of files needs little more memory than its largest document.

No value of a variable, an annotation of Dapr's or a Secret gets into a finding: what people wrote enters a message only
through `core.request.shown`, and of a Secret's value only the verdict is kept.
"""
