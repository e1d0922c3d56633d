"""`check`: whether the installation is sound."""
