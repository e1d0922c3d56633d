"""A real Kubernetes API server on loopback, for tests and for the demo.

`cluster.ControlPlane` brings up etcd, kube-apiserver and kube-controller-manager without root, Docker or
an image; `target.open_cluster` gives tests either that or an existing cluster. The programs are built once from
the Go modules in `gomod/` (`binaries`). Started processes end with the process that started them, also
when that is killed (`processes`, `workspace`).
"""
