{{/* What an uninstall keeps, as one line, because Helm shows a hook's output as one field of a log line. */}}
{{- define "pantala.kept" -}}
{{- $root := .Values.peer.root }}
{{- $claims := printf "app.kubernetes.io/instance=%s,app.kubernetes.io/component=supernode" .Release.Name -}}
Pantala is uninstalled. Each node keeps {{ $root }}, with the published files{{ if .Values.mirror.enabled }} (of Tasks that were not deleted before){{ else }} and all pieces{{ end }}: remove it there with `rm -rf {{ $root }}`.
{{- if and .Values.crds.enabled .Values.crds.keep }} The cluster keeps the CustomResourceDefinitions, with all Tasks, ImagePrefetches, Peers and SourcePolicies: remove them with `kubectl delete crd tasks.pantala.dev imageprefetches.pantala.dev peers.pantala.dev sourcepolicies.pantala.dev`.
{{- end }}
{{- if and .Values.tls.enabled .Values.tls.certManager.issuerRef }} The namespace keeps the key of the authority: remove it with `kubectl delete -n {{ .Release.Namespace }} secret {{ include "pantala.issuerSecret" . }}`.
{{- end }}
{{- if not .Values.mirror.enabled }} The namespace keeps the operators' Lease: remove it with `kubectl delete -n {{ .Release.Namespace }} lease {{ include "pantala.componentName" (list . "operator") }}`.
{{- end }}
{{- if and .Values.supernode.persistence.enabled (eq .Values.supernode.persistence.whenDeleted "Retain") }} The cluster keeps the supernodes' volumes: remove them with `kubectl delete -n {{ .Release.Namespace }} pvc -l {{ $claims }}`.
{{- end }}
{{- end }}
