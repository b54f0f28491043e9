{{- define "batchyard.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{/* The prefix of all names: the release's name, unless that lacks the chart's. */}}
{{- define "batchyard.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- $name := include "batchyard.name" . -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* What a selector may hold: never changes during the life of a release. */}}
{{- define "batchyard.selectorLabels" -}}
app.kubernetes.io/name: {{ include "batchyard.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: operator
{{- end -}}

{{- define "batchyard.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{ include "batchyard.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: batchyard
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* The notifier's, which must not be taken for the operator. */}}
{{- define "batchyard.notifierSelectorLabels" -}}
app.kubernetes.io/name: {{ include "batchyard.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: notifier
{{- end -}}

{{- define "batchyard.notifierLabels" -}}
{{ include "batchyard.labels" . | replace "app.kubernetes.io/component: operator" "app.kubernetes.io/component: notifier" }}
{{- end -}}

{{/* The gateway's, which no selector of the operator may find. */}}
{{- define "batchyard.gatewaySelectorLabels" -}}
app.kubernetes.io/name: {{ include "batchyard.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: gateway
{{- end -}}

{{- define "batchyard.gatewayLabels" -}}
{{ include "batchyard.labels" . | replace "app.kubernetes.io/component: operator" "app.kubernetes.io/component: gateway" }}
{{- end -}}

{{- define "batchyard.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "batchyard.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "batchyard.image" -}}
{{- $i := .Values.image -}}
{{- if $i.digest -}}
{{- printf "%s@%s" $i.repository $i.digest -}}
{{- else -}}
{{- printf "%s:%s" $i.repository (default .Chart.AppVersion $i.tag) -}}
{{- end -}}
{{- end -}}

{{/* The variable that tells a program for which namespaces it works. */}}
{{- define "batchyard.scope" -}}
{{- with .Values.watchNamespaces }}
- name: BATCHYARD_WATCH_NAMESPACES
  value: {{ join "," . | quote }}
{{- end }}
{{- end -}}

{{/*
Gives an account the rights of a ClusterRole on kinds that have namespaces: everywhere, or in each of watchNamespaces. A
ClusterRole that a RoleBinding binds is good in its namespace alone. Needs root, labels (a template), role, account.
*/}}
{{- define "batchyard.bind" -}}
{{- $to := . -}}
{{- range default (list "") .root.Values.watchNamespaces }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: {{ if . }}RoleBinding{{ else }}ClusterRoleBinding{{ end }}
metadata:
  {{- /* Without the addition it is the name of another RoleBinding in the release's namespace. */}}
  name: {{ $to.role }}{{ if . }}-watched{{ end }}
  {{- with . }}
  namespace: {{ . }}
  {{- end }}
  labels:
    {{- include $to.labels $to.root | nindent 4 }}
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: ClusterRole
  name: {{ $to.role }}
subjects:
  - kind: ServiceAccount
    name: {{ $to.account }}
    namespace: {{ $to.root.Release.Namespace }}
{{- end }}
{{- end -}}

{{/* The same everywhere, whatever watchNamespaces says: kinds that belong to no namespace. */}}
{{- define "batchyard.bindCluster" -}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata:
  name: {{ .role }}
  labels:
    {{- include .labels .root | nindent 4 }}
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: ClusterRole
  name: {{ .role }}
subjects:
  - kind: ServiceAccount
    name: {{ .account }}
    namespace: {{ .root.Release.Namespace }}
{{- end -}}

{{/* Where the pods of all programs go. */}}
{{- define "batchyard.placement" -}}
{{- range $member := list "nodeSelector" "tolerations" "affinity" "topologySpreadConstraints" }}
{{- with index $.Values $member }}
{{ $member }}:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
{{- end -}}

{{/* The programs that run, each with its name and how often it runs. */}}
{{- define "batchyard.programs" -}}
{{- $name := include "batchyard.fullname" . -}}
- {component: operator, name: {{ $name }}, replicas: {{ .Values.replicas | int }}}
{{- if .Values.gateway.enabled }}
- {component: gateway, name: {{ $name }}-gateway, replicas: {{ .Values.gateway.replicas | int }}}
{{- end }}
{{- if .Values.notifier.enabled }}
- {component: notifier, name: {{ $name }}-notifier, replicas: {{ .Values.notifier.replicas | int }}}
{{- end }}
{{- end -}}
