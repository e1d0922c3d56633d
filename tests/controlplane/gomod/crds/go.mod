// Whose CustomResourceDefinitions tests install (see crds.py). Nothing is compiled, so `go mod tidy` would empty it.
module dapr-token-injector.local/tests/crds

go 1.26.0

require (
	github.com/cert-manager/cert-manager v1.21.2
	github.com/external-secrets/external-secrets v1.3.2
	github.com/prometheus-operator/prometheus-operator v0.85.0
)
