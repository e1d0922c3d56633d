import json

import pytest

from tests.bench import bodies


@pytest.mark.parametrize("name", bodies.SIZES)
def test_body_has_its_nominal_size_within_tolerance(name: str) -> None:
    size = bodies.SIZES[name]
    assert len(bodies.body(size)) == pytest.approx(size, rel=bodies.TOLERANCE)


def test_body_is_the_same_every_time() -> None:
    size = bodies.SIZES["62 KB"]
    assert bodies.body.__wrapped__(size) == bodies.body.__wrapped__(size)


def test_body_looks_like_what_an_api_server_sends() -> None:
    review = json.loads(bodies.body(bodies.SIZES["62 KB"]))
    pod = review["request"]["object"]
    names = [container["name"] for container in pod["spec"]["containers"]]
    assert review["kind"] == "AdmissionReview"
    assert "name" not in pod["metadata"]
    assert pod["metadata"]["generateName"].endswith("-")
    assert len(pod["spec"]["containers"][-1]["env"]) == 20
    assert names[-1] == "daprd"
    assert len(set(names)) == len(names)
    assert {mount["name"] for c in pod["spec"]["containers"] for mount in c.get("volumeMounts", ())} == {
        volume["name"] for volume in pod["spec"]["volumes"]
    }


def test_size_that_cannot_be_reached_is_refused() -> None:
    with pytest.raises(ValueError, match="nearest body to 100 bytes"):
        bodies.body(100)
