"""What becomes of Pods that are created while something happens to the webhook.

`python -m tests.availability` enters a network namespace of its own, starts a control plane and replicas of our webhook
behind a Service there, lets Pods be created without a pause, and inflicts one fault after another. It counts what every
single create came to and prints one row per fault. Nothing leaves the namespace, and nothing outlives the program.
"""
