"""Rules about annotations that do nothing: misspelt ones, and ones that are in no Pod template."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from injector.core import names, spelling
from injector.lint.model import Hit, Level, Rule
from injector.lint.rules.examples import DAPR, FOR_WEB, SECRET, pod

if TYPE_CHECKING:
    from collections.abc import Iterator

    from injector.lint.files import FileSet
    from injector.lint.location import Location
    from injector.lint.template import TemplateOwner


def _unknown(workload: TemplateOwner) -> Iterator[Hit]:
    for path, found in (
        *(((*above.path, "annotations"), above.annotations) for above in workload.above),
        *(((*view.path, "metadata", "annotations"), view.raw_annotations) for view in workload.templates),
    ):
        keys = list(spelling.unknown(found))
        yield from (Hit((*path, key), spelling.message(key)) for key in keys[: names.MAX_WARNINGS])
        if len(keys) > names.MAX_WARNINGS:
            yield Hit(path, f"{len(keys) - names.MAX_WARNINGS} more unknown annotations")


UNKNOWN_ANNOTATION: Final = Rule(
    id="DTI018",
    name="unknown-annotation",
    level=Level.WARNING,
    summary="Neither Dapr nor this webhook reads the annotation; it is probably misspelt.",
    why=(
        "Kubernetes accepts any key. A misspelt annotation does nothing and nothing reports it: the Pod has no "
        "sidecar, or its sidecar has no token and serves every client. Known are the annotations of this webhook and "
        "the 64 of Dapr 1.18. Keys with the prefixes `dapr.io/` and `dapr-token-injector/` are checked, and keys "
        "with a misspelt prefix and a known name."
    ),
    fix=(
        "Write the annotation that the message names. If your release of Dapr has an annotation that this program does "
        "not know, ignore the line with a reason."
    ),
    bad=pod('dapr.io/enable: "true"', "dapr.io/apiTokenSecret: dapr-api-token"),
    good=pod(DAPR, SECRET, FOR_WEB),
    workload=_unknown,
)


def _outside(files: FileSet) -> Iterator[tuple[Location, str]]:
    for source, location in files.outside.items():
        if source not in files.annotated:
            yield location, "dapr.io annotations found outside any Pod template"


ANNOTATION_OUTSIDE_TEMPLATE: Final = Rule(
    id="DTI019",
    name="annotation-outside-template",
    level=Level.INFO,
    summary="The annotations of Dapr in the file are outside any Pod template, so nothing was checked.",
    why=(
        "Rules check Pods and Pod templates: a `spec` with a list of `containers`, next to the `metadata` with the "
        "annotations. In this file the annotations are elsewhere, for example in a patch, in values of Helm, or in a "
        "resource whose controller makes the Pods from other fields. Reported once for each file, at the first "
        "annotation."
    ),
    fix=(
        "Check what reaches the cluster: render the file first (`helm template`, `kubectl kustomize`), or save a Pod "
        "with `kubectl get pod NAME -o yaml` and check that."
    ),
    bad="""\
apiVersion: argoproj.io/v1alpha1
kind: Workflow
metadata:
  name: orders
spec:
  podMetadata:
    annotations:
      dapr.io/enabled: "true"
      dapr.io/api-token-secret: dapr-api-token
  entrypoint: main
  templates:
    - name: main
      container:
        image: example/orders
""",
    good=pod(DAPR, SECRET, FOR_WEB),
    files=_outside,
)


RULES: Final = (UNKNOWN_ANNOTATION, ANNOTATION_OUTSIDE_TEMPLATE)
