"""Measures creates of Pods during faults of the webhook.

`python -m tests.availability` enters a separate network namespace, starts a control plane and replicas of the webhook
behind one or two Services, creates Pods continuously, and causes one fault after another. It counts the result of each
create and prints one row per fault. Nothing leaves the namespace, and nothing outlives the program.
"""
