"""What the process reports of itself: log lines, and the registry of metrics that packages add theirs to.

Made once, passed in; nothing here is global.
"""
