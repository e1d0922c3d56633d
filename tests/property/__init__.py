"""Properties that hold for every generated Pod, policy and body."""
