"""Laws: what holds for every Pod, policy and body, not only for those that somebody thought of."""
