{{/* What an uninstall keeps: said by NOTES.txt beforehand and by the uninstall itself. */}}
{{- define "pantala.kept" -}}
Pantala is uninstalled. This is kept:
- On each node, {{ .Values.peer.root }}: the published files in files/, their pieces in cache/.
  Remove it on the nodes: rm -rf {{ .Values.peer.root }}
{{- if and .Values.crds.enabled .Values.crds.keep }}
- The CustomResourceDefinitions, with all Tasks and Peers.
  Remove them: kubectl delete crd tasks.pantala.dev peers.pantala.dev
{{- end }}
{{- if and .Values.supernode.persistence.enabled (eq .Values.supernode.persistence.whenDeleted "Retain") }}
- The supernode's volume claim data-{{ include "pantala.componentName" (list . "supernode") }}-0.
  Remove it: kubectl delete -n {{ .Release.Namespace }} pvc data-{{ include "pantala.componentName" (list . "supernode") }}-0
{{- end }}
{{- end }}
