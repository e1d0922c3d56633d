"""The fake API server of all tests: objects in memory, over HTTP or in the process of the test.

`store` has the rules of the API that our code relies on: resource versions, preconditions, selectors, pages, patches,
dry runs, watches, and faults that a test requests. `server` serves a store on loopback, for commands. `client` is our
own client in front of a store, without a network, for tests that decide how each call ends. Admission, permissions
and controllers are not part of it: tests that need them are in `tests/cluster`.
"""
