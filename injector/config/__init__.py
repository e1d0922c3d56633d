"""Settings of the process and the cluster owner's Policy, each checked in whole before anything starts."""
