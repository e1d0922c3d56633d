"""Calls of a sidecar's API from inside its Pod, without a token, with a wrong and with the right one.

They run in the container `app`, which has our image, because that has Python and gRPC.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from tests.controlplane.kubectl import Kubectl

# argv[1]: how to call: none, wrong, own (the token of this container's own environment), or file (the mounted one).
# Prints the HTTP status and the name of the gRPC code; never the token.
_SCRIPT: Final = r"""
import json, os, sys, urllib.error, urllib.request
import grpc
how = sys.argv[1]
token = {"none": None, "wrong": "wrong"}.get(how, "")
if how == "own":
    token = os.environ["DAPR_API_TOKEN"]
elif how == "file":
    token = open("/secret/token").read()
headers = {"dapr-api-token": token} if token else {}
request = urllib.request.Request("http://127.0.0.1:3500/v1.0/metadata", headers=headers)
try:
    status = urllib.request.urlopen(request, timeout=10).status
except urllib.error.HTTPError as error:
    status = error.code
with grpc.insecure_channel("127.0.0.1:50001") as channel:
    call = channel.unary_unary("/dapr.proto.runtime.v1.Dapr/GetMetadata")
    try:
        call(b"", timeout=10, metadata=tuple(headers.items()))
        code = "OK"
    except grpc.RpcError as error:
        code = error.code().name
print(json.dumps({"http": status, "grpc": code}))
"""


@dataclass(frozen=True, slots=True)
class Answers:
    """The answer of the sidecar: an HTTP status and the name of a gRPC code."""

    http: int
    grpc: str


REFUSED: Final = Answers(401, "UNAUTHENTICATED")
SERVED: Final = Answers(200, "OK")


def call_sidecar(kubectl: Kubectl, pod: str, how: str) -> Answers:
    """Call the sidecar of `pod`; `how` is `none`, `wrong`, `own` or `file`."""
    command = ("exec", pod, "--container=app", "--", "python", "-c", _SCRIPT, how)
    return Answers(**json.loads(kubectl.run(*command).stdout))
