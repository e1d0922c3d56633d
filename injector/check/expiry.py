"""Whether certificates are renewed in time: those that the webhook serves, and those in the registered caBundle.

The webhook and cert-manager renew a certificate when two thirds of its lifetime have passed, so a third is left. With
less than three tenths left, the renewal is overdue; with less than a tenth left, little time remains to repair it.
"""

from __future__ import annotations

import asyncio
import base64
from typing import TYPE_CHECKING, Final

from injector.check.certificates import readable, seconds_valid
from injector.check.installation import condition, pods_of
from injector.check.model import Outcome, failed, unknown, warning
from injector.check.serving import MOST_HANDSHAKES, served_certificate
from injector.core.durations import span
from injector.kube.api_messages import single_line
from injector.kube.errors import ForbiddenError, KubeError, NotFoundError
from injector.kube.resources import CERTIFICATES
from injector.times import rfc3339
from injector.words import counted

if TYPE_CHECKING:
    from cryptography import x509

    from injector.check.installation import CalledService
    from injector.check.model import CheckProblem
    from injector.check.reader import ClusterReader
    from injector.kube.resources import Object, Objects

_OVERDUE: Final = 0.3  # of the lifetime is left
_CLOSE: Final = 0.1
# Seconds. Certificates of the webhook begin earlier than they are created, so only a wrong clock is further away.
_CLOCK_TOLERANCE: Final = 60


async def serving(reader: ClusterReader, service: CalledService) -> Outcome:
    """Check the certificates that the Pods behind a Service serve, and their Certificates of cert-manager."""
    pods = await pods_of(reader, service)
    problems = await _cert_manager_problems(reader, service.namespace, pods)
    ready = [pod for pod in pods if condition(pod, "Ready").get("status") == "True"]
    left: list[int] = []
    asked = ready[:MOST_HANDSHAKES]
    answers = await asyncio.gather(*(_served(reader, pod) for pod in asked))
    now = reader.now
    for pod, answer in zip(asked, answers, strict=True):
        if isinstance(answer, KubeError):
            problems.append(unknown(str(answer)))
        else:
            left.append(seconds_valid(answer)[1] - now)
            problems += _problems(f"the certificate of Pod {pod['metadata']['name']}", answer, now)
    if not ready and not problems:
        return Outcome(seen=f"no Pod of {service} is ready", is_skipped=True)
    seen = f"{counted(len(left), 'certificate')} of {counted(len(ready), 'ready Pod')}"
    until = f", valid for at least {span(min(left))}" if left and min(left) > 0 else ""
    return Outcome(seen=seen + until, problems=tuple(problems))


async def _served(reader: ClusterReader, pod: Object) -> x509.Certificate | KubeError:
    try:
        return await served_certificate(reader, pod)
    except KubeError as error:
        return error


async def ca_bundle(reader: ClusterReader) -> Outcome:
    """Check the certificates in the caBundle of each registered entry."""
    problems: dict[CheckProblem, None] = {}
    seen = 0
    for found in await reader.configurations():
        for entry in found.get("webhooks") or ():
            bundle = (entry.get("clientConfig") or {}).get("caBundle") or ""
            authorities = readable(base64.b64decode(bundle, validate=True))
            if not authorities:
                continue
            seen += 1
            # A new CA is added before the previous one ends, so the last one to end counts.
            last = max(authorities, key=lambda one: seconds_valid(one)[1])
            problems |= dict.fromkeys(_problems(f"the CA in the caBundle of {entry['name']}", last, reader.now))
    if not seen:
        return Outcome(seen="no entry has a caBundle with a certificate", is_skipped=True)
    return Outcome(seen=counted(seen, "caBundle"), problems=tuple(problems))


async def _cert_manager_problems(reader: ClusterReader, namespace: str, pods: Objects) -> list[CheckProblem]:
    """Return the problems of Certificates of cert-manager whose Secrets the Pods mount."""
    volumes = [volume for pod in pods for volume in pod["spec"].get("volumes") or ()]
    secrets = {volume["secret"].get("secretName") for volume in volumes if volume.get("secret")}
    if not secrets:
        return []
    try:
        certificates = await reader.list(CERTIFICATES, namespace)
    except NotFoundError:
        return []
    except ForbiddenError as error:  # the API server rejects the request also without cert-manager
        try:
            await reader.raw(f"/apis/{CERTIFICATES.api_version}")
        except NotFoundError:
            return []
        return [unknown(f"whether cert-manager could renew the certificates is not known: {error}")]
    mounted = [one for one in certificates if (one.get("spec") or {}).get("secretName") in secrets]
    return [problem for one in mounted for problem in _certificate_problems(one)]


def _certificate_problems(certificate: Object) -> list[CheckProblem]:
    meta, status = certificate["metadata"], certificate.get("status") or {}
    name = f"Certificate {meta['namespace']}/{meta['name']} of cert-manager"
    describe = f"kubectl describe certificate {meta['name']} --namespace {meta['namespace']}"
    ready = condition(certificate, "Ready")
    if ready.get("status") != "True":
        why = single_line(str(ready.get("message") or ready.get("reason") or "it has no condition Ready"))
        return [failed(f"{name} is not ready: {why}", describe)]
    if attempts := status.get("failedIssuanceAttempts"):
        return [warning(f"{name} could not be renewed; failed attempts: {attempts}", describe)]
    return []


def _problems(what: str, certificate: x509.Certificate, now: int) -> list[CheckProblem]:
    begins, ends = seconds_valid(certificate)
    date = rfc3339(ends)
    left = ends - now
    if left <= 0:
        return [failed(f"{what} expired {span(-left)} ago ({date})")]
    if begins > now + _CLOCK_TOLERANCE:
        return [failed(f"{what} is not valid for another {span(begins - now)}: a clock is wrong")]
    if left < _CLOSE * (ends - begins):
        return [failed(f"{what} expires in {span(left)} ({date})")]
    if left < _OVERDUE * (ends - begins):
        return [warning(f"{what} expires in {span(left)} ({date}): its renewal is overdue")]
    return []
