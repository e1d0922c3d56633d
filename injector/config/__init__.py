"""Settings of the process and the cluster owner's Policy; both are validated before anything starts."""
