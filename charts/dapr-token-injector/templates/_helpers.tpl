{{/* Names are fixed: documentation, alerts and the permissions on two named configurations depend on them, and a cluster has one installation. */}}
{{- define "dapr-token-injector.name" -}}
dapr-token-injector
{{- end }}

{{- define "dapr-token-injector.serviceAccountName" -}}
{{ .Values.serviceAccount.name | default "dapr-token-injector" }}
{{- end }}

{{- define "dapr-token-injector.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}
{{- end }}

{{/* The image of the init containers in sealed Pods. */}}
{{- define "dapr-token-injector.sealImage" -}}
{{- $own := .Values.seal.image -}}
{{- if $own.digest -}}
{{ $own.repository | default .Values.image.repository }}@{{ $own.digest }}
{{- else if or $own.repository $own.tag -}}
{{ $own.repository | default .Values.image.repository }}:{{ $own.tag | default .Values.image.tag | default .Chart.AppVersion }}
{{- else -}}
{{ include "dapr-token-injector.image" . }}
{{- end }}
{{- end }}

{{/* Whether the API server is too old for sealed Pods: it drops the field fileKeyRef, and rejects the Pod; empty if not. */}}
{{- define "dapr-token-injector.cannotSeal" -}}
{{- if semverCompare "<1.35.0-0" .Capabilities.KubeVersion.Version }}yes{{ end }}
{{- end }}

{{/* Which Pods are sealed. */}}
{{- define "dapr-token-injector.sealMode" -}}
{{ .Values.seal.mode | default (ternary "off" "on-request" (eq (include "dapr-token-injector.cannotSeal" .) "yes")) }}
{{- end }}

{{/* Whether the replicas are in two groups, each behind a Service and entries of its own: docs/decisions/0039-two-entries.md; empty if not. */}}
{{- define "dapr-token-injector.redundant" -}}
{{- if eq (int .Values.webhook.redundancy) 2 }}yes{{ end }}
{{- end }}

{{/* The groups of replicas, as a JSON list: the suffix of each group's names, and the number of its replicas if it is set. */}}
{{- define "dapr-token-injector.groups" -}}
{{- $total := .Values.replicas }}
{{- if not (include "dapr-token-injector.redundant" .) }}
{{- list (dict "suffix" "" "replicas" $total) | toJson }}
{{- else if kindIs "invalid" $total }}
{{- list (dict "suffix" "") (dict "suffix" "-2") | toJson }}
{{- else }}
{{- $second := div (int $total) 2 }}
{{- list (dict "suffix" "" "replicas" (sub (int $total) $second)) (dict "suffix" "-2" "replicas" $second) | toJson }}
{{- end }}
{{- end }}

{{/* The labels by which a group's Pods are selected: `dict "root" $`, and "suffix" for others than the first group's. */}}
{{- define "dapr-token-injector.selectorLabels" -}}
app.kubernetes.io/name: dapr-token-injector{{ .suffix | default "" }}
app.kubernetes.io/instance: {{ .root.Release.Name | quote }}
{{- end }}

{{/* A selector of the Pods, or Services, of all groups. */}}
{{- define "dapr-token-injector.selector" -}}
matchLabels:
{{- if include "dapr-token-injector.redundant" . }}
  app.kubernetes.io/instance: {{ .Release.Name | quote }}
matchExpressions:
  - {key: app.kubernetes.io/name, operator: In, values: [dapr-token-injector, dapr-token-injector-2]}
{{- else }}
  {{- include "dapr-token-injector.selectorLabels" (dict "root" .) | nindent 2 }}
{{- end }}
{{- end }}

{{- define "dapr-token-injector.labels" -}}
{{ include "dapr-token-injector.selectorLabels" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{- end }}

{{/* The metadata of an object: `dict "root" $ "name" N "namespaced" BOOL`, and optionally "annotations", "labels" and the "suffix" of the label with the name. */}}
{{- define "dapr-token-injector.metadata" -}}
name: {{ .name }}
{{- if .namespaced }}
namespace: {{ .root.Release.Namespace | quote }}
{{- end }}
labels:
  {{- include "dapr-token-injector.labels" . | nindent 2 }}
  {{- with merge (dict) (.labels | default dict) (.root.Values.extraLabels | default dict) }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with merge (dict) (.annotations | default dict) (.root.Values.extraAnnotations | default dict) }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* Namespaces that never reach the webhook, as a JSON list. */}}
{{- define "dapr-token-injector.excludedNamespaces" -}}
{{- $excluded := list }}
{{- range .Values.webhook.excludedNamespaces }}
{{- $excluded = append $excluded (tpl . $) }}
{{- end }}
{{- toJson $excluded }}
{{- end }}

{{/* The clientConfig of a webhook entry: `dict "root" $ "path" PATH "suffix" SUFFIX`. */}}
{{- define "dapr-token-injector.clientConfig" -}}
{{- /* No caBundle key in mode self and cert-manager, not even an empty one: it would overwrite the existing value. */ -}}
service:
  name: dapr-token-injector{{ .suffix | default "" }}
  namespace: {{ .root.Release.Namespace | quote }}
  path: {{ .path }}
  port: 443
{{- if eq .root.Values.tls.mode "files" }}
caBundle: {{ .root.Values.tls.files.caBundle | b64enc }}
{{- end }}
{{- end }}

{{/* Annotations of a webhook configuration: the source of caBundle for cert-manager's cainjector; `dict "root" $ "suffix" SUFFIX`. */}}
{{- define "dapr-token-injector.bundleSource" -}}
{{- if eq .root.Values.tls.mode "cert-manager" }}
{{- /* The chart's own CA, so that a new CA is trusted before it signs. With another issuer only the Secret of the serving certificate contains the CA. */}}
cert-manager.io/inject-ca-from: {{ .root.Release.Namespace }}/dapr-token-injector{{ if .root.Values.tls.certManager.issuerRef }}{{ .suffix }}{{ else }}-ca{{ end }}
{{- end }}
{{- end }}

{{/* The match condition `not-yet-served` of the second group's entries; `true` for the entry of the default Secret. It is false only if each sidecar, and each container that the Pod names, has the reference that the Pod requests, and the status annotation has that of the sidecar. In doubt it is true: a second call changes nothing. A sealed Pod must be as in docs/decisions/0035-sealed-pods.md. The first three names are the annotations, all containers, and the requested variables; app containers of more than 100,000 names are not compared, because an expression beyond its budget would skip the entry. */}}
{{- define "dapr-token-injector.notYetServed" -}}
!('dapr-token-injector/status' in object.metadata.?annotations.orValue({}) && [object.metadata.annotations].all(a,
[object.spec.containers + object.spec.?initContainers.orValue([])].all(every, every.exists(c, c.name == 'daprd') &&
[[['DAPR_API_TOKEN', 'dapr.io/api-token-secret', 'dapr-token-injector/api-token-key'],
['APP_API_TOKEN', 'dapr.io/app-token-secret', 'dapr-token-injector/app-token-key']]
.map(v, {'name': v[0], 'secret': a[?v[1]].orValue('').trim(), 'key': a[?v[2]].orValue('').trim()})
.filter(v, v.secret != ''{{ if . }} || v.name == 'DAPR_API_TOKEN'{{ end }})].all(wanted,
[[object.spec.?initContainers.orValue([]).filter(c, c.name == 'daprd' || c.name.startsWith('dapr-token-injector-seal'))].exists(s,
s.size() > 1 && [s[0].name, s[1].name] == ['dapr-token-injector-seal', 'dapr-token-injector-seal-check'] &&
[s[0].?command.orValue([]), s[0].?args.orValue([])] == [['dapr-token-injector', 'seal'], wanted.map(v, v.name)] &&
[s[1].?command.orValue([]), s[1].?args.orValue([])] == [['dapr-token-injector', 'seal', '--check'], wanted.map(v, v.name)] &&
['DAPR_API_TOKEN', 'APP_API_TOKEN'].filter(v, s[0].?env.orValue([]).exists(e, e.name == v)) == wanted.map(v, v.name) &&
!s[0].?restartPolicy.hasValue() && !s[1].?restartPolicy.hasValue() &&
object.spec.?volumes.orValue([]).exists(v, v.name == 'dapr-token-injector-seal' && v.?emptyDir.?medium.orValue('') == 'Memory') &&
every.filter(c, c.?volumeMounts.orValue([]).exists(m, m.name == 'dapr-token-injector-seal'))
.map(c, [c.name] + c.volumeMounts.filter(m, m.name == 'dapr-token-injector-seal')
.map(m, m.mountPath + ':' + m.?subPath.orValue('') + ':' + m.?subPathExpr.orValue('')))
== [['dapr-token-injector-seal', '/dapr-token-injector/seal::']])].all(sealed,
(sealed || !(a[?'dapr-token-injector/seal'].orValue('').trim().lowerAscii() in ['y', 'yes', 'true', 't', 'on', '1'])) &&
[a[?'dapr-token-injector/app-containers'].orValue('').split(',')].all(words, words.size() * (every.size() + 20) <= 100000 &&
[words.map(w, w.trim()) + ['daprd', 'dapr-token-injector-seal', 'dapr-token-injector-seal-check']].all(names,
every.filter(c, c.name in names).all(c, [c.?env.orValue([]).filter(e, e.name.endsWith('_API_TOKEN'))].all(env,
wanted.all(v, [env.filter(e, e.name == v.name)].all(same, same.size() > 0 && [same[same.size() - 1]].all(e,
e.?valueFrom.?secretKeyRef.hasValue() && c.name != 'dapr-token-injector-seal-check' && [e.valueFrom.secretKeyRef].all(r,
!r.?optional.orValue(false) && (v.secret == '' || r.name == v.secret) && (v.key == '' || r.key == v.key) &&
(c.name != 'daprd' || a['dapr-token-injector/status']
.contains('"env":"' + v.name + '","name":"' + r.name + '","key":"' + r.key + '"'))) ||
sealed && c.name != 'dapr-token-injector-seal' && e.?valueFrom.?fileKeyRef.hasValue() && [e.valueFrom.fileKeyRef].all(f,
f.volumeName == 'dapr-token-injector-seal' && f.path == 'tokens.env' && f.key == v.name && !f.?optional.orValue(false))))))))))))))
{{- end }}

{{/* The policy file. */}}
{{- define "dapr-token-injector.policy" -}}
{{- $policy := dict }}
{{- range $key, $value := .Values.policy }}
{{- if not (or (kindIs "invalid" $value) (and (kindIs "string" $value) (not $value))) }}
{{- $_ := set $policy $key $value }}
{{- end }}
{{- end }}
{{- $_ := set $policy "seal" (include "dapr-token-injector.sealMode" .) }}
{{- $_ := set $policy "sealImage" (include "dapr-token-injector.sealImage" .) }}
{{- with .Values.seal.imagePullSecrets }}
{{- $_ := set $policy "sealImagePullSecrets" . }}
{{- end }}
{{- toYaml $policy }}
{{- end }}

{{/* Seconds of a lifetime such as `12h` or `90d`. */}}
{{- define "dapr-token-injector.seconds" -}}
{{ mul (regexFind "[0-9]+" .) (get (dict "s" 1 "m" 60 "h" 3600 "d" 86400) (regexFind "[smhd]" .)) }}
{{- end }}

{{/* The namespace in which the canary sends a Pod, and the Secret that the Pod references. */}}
{{- define "dapr-token-injector.canaryNamespace" -}}
{{ .Values.canary.namespace | default (eq .Release.Namespace "default" | ternary "kube-public" "default") }}
{{- end }}

{{- define "dapr-token-injector.canarySecret" -}}
{{ .Values.canary.secretName | default .Values.policy.defaultSecret | default "dapr-api-token" }}
{{- end }}

{{/* The spec of a Pod that runs the canary: `dict "root" $ "account" NAME`, and "reads" if it also compares entries and policy. */}}
{{- define "dapr-token-injector.canaryPod" -}}
serviceAccountName: {{ .account }}
automountServiceAccountToken: true
enableServiceLinks: false
restartPolicy: Never
{{- with .root.Values.imagePullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . | quote }}
  {{- end }}
{{- end }}
{{- with .root.Values.podSecurityContext }}
securityContext:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .root.Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .root.Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
containers:
  - name: canary
    image: {{ include "dapr-token-injector.image" .root | quote }}
    imagePullPolicy: {{ .root.Values.image.pullPolicy }}
    args:
      - check
      - --canary
      - --canary-namespace={{ include "dapr-token-injector.canaryNamespace" .root }}
      - --canary-secret={{ include "dapr-token-injector.canarySecret" .root }}:{{ .root.Values.policy.defaultKeys.api }}
      {{- if .root.Values.policy.shadow }}
      - --canary-shadow
      {{- end }}
      {{- if .reads }}
      - --canary-groups={{ .root.Values.webhook.redundancy }}
      {{- with include "dapr-token-injector.requestedAction" .root }}
      - --canary-requested={{ . }}
      {{- end }}
      {{- end }}
    terminationMessagePolicy: FallbackToLogsOnError
    resources:
      requests: {cpu: 10m, memory: 64Mi}
      limits: {memory: 128Mi}
    securityContext:
      allowPrivilegeEscalation: false
      capabilities: {drop: [ALL]}
      readOnlyRootFilesystem: true
{{- end }}

{{/* Whether the policy allows a Secret's name: `list $ NAME`; empty if not. */}}
{{- define "dapr-token-injector.allows" -}}
{{- $name := index . 1 }}
{{- range (index . 0).Values.policy.allowedSecrets | default (list "*") }}
{{- $pattern := . | replace "." "\\." | replace "*" ".*" | replace "?" "." | replace "[!" "[^" }}
{{- if regexMatch (printf "^%s$" $pattern) $name }}yes{{ end }}
{{- end }}
{{- end }}

{{/* The action of the policy `requested`; empty if it is not installed. While the replicas of shadow mode are replaced, they still patch nothing, so the upgrade that ends shadow mode does not deny yet. */}}
{{- define "dapr-token-injector.requestedAction" -}}
{{- if and (ne .Values.requested.action "Off") (not .Values.policy.shadow) (eq .Values.webhook.failurePolicy "Fail") }}
{{- $live := dig "data" "policy.yaml" "" (lookup "v1" "ConfigMap" .Release.Namespace "dapr-token-injector-policy") | fromYaml }}
{{- if and (eq .Values.requested.action "Deny") $live.shadow }}Audit{{ else }}{{ .Values.requested.action }}{{ end }}
{{- end }}
{{- end }}

{{/* The command that takes the webhook out of the admission path: docs/how-to/choose-a-failure-policy.md. */}}
{{- define "dapr-token-injector.emergency" -}}
kubectl delete --ignore-not-found validatingadmissionpolicybinding/dapr-token-injector-requested mutatingwebhookconfiguration/dapr-token-injector mutatingwebhookconfiguration/dapr-token-injector-2 validatingwebhookconfiguration/dapr-token-injector
{{- end }}

{{/* Variables of an admission policy that has `init`: whether the Pod is sealed. The argument is the expression for a seal without a token that the policy needs. */}}
{{- define "dapr-token-injector.sealVariables" -}}
# The two init containers of a sealed Pod, which give the sidecar its token in a file: docs/decisions/0035-sealed-pods.md,
# and the same rules as in injector/core/sealed.py. Only evaluated for a sidecar that reads a file.
- name: order
  expression: variables.init.map(c, c.name)
- name: seal
  expression: variables.init.filter(c, c.name == 'dapr-token-injector-seal')
- name: check
  expression: variables.init.filter(c, c.name == 'dapr-token-injector-seal-check')
- name: mounts
  expression: variables.seal[0].?volumeMounts.orValue([]).filter(m, m.name == 'dapr-token-injector-seal')
# The variables that the seal container writes, in the order of its arguments.
- name: tokens
  expression: >-
    ['DAPR_API_TOKEN', 'APP_API_TOKEN'].filter(v, variables.seal[0].?env.orValue([]).exists(e, e.name == v))
# The effective entries of these variables in the two containers; an empty one if the check container has none. `dyn`:
# API servers below 1.34 do not know the field fileKeyRef.
- name: written
  expression: variables.tokens.map(v, variables.seal[0].env.filter(e, e.name == v)).map(all, all[all.size() - 1])
- name: checked
  expression: >-
    variables.tokens.map(v, variables.check[0].?env.orValue([]).filter(e, e.name == v))
    .map(all, all.size() == 0 ? dyn({}) : dyn(all[all.size() - 1]))
# The problem of the seal, or an empty text.
- name: unsealed
  expression: >-
    variables.seal.size() == 0
    ? 'there is no init container dapr-token-injector-seal'
    : variables.check.size() == 0
    ? 'there is no init container dapr-token-injector-seal-check'
    : variables.order.indexOf('dapr-token-injector-seal-check') < variables.order.indexOf('dapr-token-injector-seal')
    ? 'dapr-token-injector-seal-check runs before dapr-token-injector-seal'
    : variables.order.indexOf('daprd') >= 0 && variables.order.indexOf('daprd') < variables.order.indexOf('dapr-token-injector-seal-check')
    ? 'daprd starts before dapr-token-injector-seal-check'
    : variables.seal[0].?restartPolicy.hasValue() || variables.check[0].?restartPolicy.hasValue()
    ? 'dapr-token-injector-seal or dapr-token-injector-seal-check has a restartPolicy'
    : !object.spec.?volumes.orValue([]).exists(v, v.name == 'dapr-token-injector-seal' && v.?emptyDir.?medium.orValue('') == 'Memory')
    ? 'the volume dapr-token-injector-seal is not an emptyDir with medium: Memory'
    : (object.spec.containers + variables.init).exists(c, c.name != 'dapr-token-injector-seal' && c.?volumeMounts.orValue([]).exists(m, m.name == 'dapr-token-injector-seal'))
    ? 'a container other than dapr-token-injector-seal mounts the volume dapr-token-injector-seal'
    : variables.mounts.size() != 1 || variables.mounts[0].mountPath != '/dapr-token-injector/seal' || variables.mounts[0].?subPath.hasValue() || variables.mounts[0].?subPathExpr.hasValue()
    ? 'dapr-token-injector-seal does not mount the volume once, at /dapr-token-injector/seal, without subPath'
    : {{ . }} || !variables.written.all(e, e.?valueFrom.?secretKeyRef.hasValue() && !e.valueFrom.secretKeyRef.?optional.orValue(false))
    ? 'dapr-token-injector-seal does not get each token from a secretKeyRef without optional'
    : variables.seal[0].?command.orValue([]) != ['dapr-token-injector', 'seal'] || variables.seal[0].?args.orValue([]) != variables.tokens
    ? 'dapr-token-injector-seal has a different command or arguments'
    : variables.check[0].?command.orValue([]) != ['dapr-token-injector', 'seal', '--check'] || variables.check[0].?args.orValue([]) != variables.tokens
    ? 'dapr-token-injector-seal-check has a different command or arguments'
    : !variables.checked.all(e, e.?valueFrom.?fileKeyRef.hasValue() && [e.valueFrom.fileKeyRef].all(f, f.volumeName == 'dapr-token-injector-seal' && f.path == 'tokens.env' && f.key == e.name && !f.?optional.orValue(false)))
    ? 'dapr-token-injector-seal-check does not read each token from the same file, without optional'
    : ''
{{- end }}
