import pytest

from injector.kube.resources import DEPLOYMENTS, MUTATING_WEBHOOKS, SECRETS, Resource


@pytest.mark.parametrize(
    ("resource", "namespace", "name", "subresource", "path"),
    [
        (SECRETS, "ns", "s", "", "/api/v1/namespaces/ns/secrets/s"),
        (SECRETS, None, None, "", "/api/v1/secrets"),
        (DEPLOYMENTS, "ns", "d", "status", "/apis/apps/v1/namespaces/ns/deployments/d/status"),
        (
            MUTATING_WEBHOOKS,
            "ignored",
            "w",
            "",
            "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/w",
        ),
        (SECRETS, "a/b", "../x", "", "/api/v1/namespaces/a%2Fb/secrets/..%2Fx"),
    ],
)
def test_path_of_each_resource(
    resource: Resource, namespace: str | None, name: str | None, subresource: str, path: str
) -> None:
    assert resource.path(namespace, name, subresource) == path
