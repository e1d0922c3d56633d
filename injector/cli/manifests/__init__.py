"""The commands on manifests: `inject`, `uninject`, `explain` and `lint`."""
