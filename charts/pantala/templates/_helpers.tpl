{{/* The chart's name, as a label's value. */}}
{{- define "pantala.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{/*
The prefix of all names. 41 characters leave room for "-supernode" and for the 11 that a StatefulSet's controller adds in a
label's value.
*/}}
{{- define "pantala.fullname" -}}
{{- $name := default .Chart.Name .Values.nameOverride }}
{{- if contains $name .Release.Name }}{{ $name = .Release.Name }}{{ else }}{{ $name = printf "%s-%s" .Release.Name $name }}{{ end }}
{{- default $name .Values.fullnameOverride | replace "." "-" | trunc 41 | trimSuffix "-" }}
{{- end }}

{{- define "pantala.labels" -}}
{{ include "pantala.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: pantala
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* Labels that never change, because selectors cannot change. */}}
{{- define "pantala.selectorLabels" -}}
app.kubernetes.io/name: {{ include "pantala.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{/* The following take a list: the root context and a component's name. */}}

{{- define "pantala.componentName" -}}
{{ include "pantala.fullname" (first .) }}-{{ last . }}
{{- end }}

{{- define "pantala.componentLabels" -}}
{{ include "pantala.labels" (first .) }}
app.kubernetes.io/component: {{ last . }}
{{- end }}

{{- define "pantala.componentSelector" -}}
{{ include "pantala.selectorLabels" (first .) }}
app.kubernetes.io/component: {{ last . }}
{{- end }}

{{/* The rule of a NetworkPolicy that lets Prometheus in. */}}
{{- define "pantala.metricsRule" -}}
{{- with .Values.monitoring }}
{{- if and .enabled .from }}
# Prometheus reads the metrics, which have counts and no names.
- ports:
    - port: health
  from:
    {{- toYaml .from | nindent 4 }}
{{- end }}
{{- end }}
{{- end }}

{{/* The labels of an object that Prometheus' operator selects. */}}
{{- define "pantala.monitoringLabels" -}}
{{- with (first .).Values.monitoring.labels }}
{{- toYaml . }}
{{ end }}
{{- include "pantala.componentLabels" . }}
{{- end }}

{{- define "pantala.serviceAccountName" -}}
{{- $account := (get (first .).Values (last .)).serviceAccount }}
{{- if or $account.create $account.name }}{{ default (include "pantala.componentName" .) $account.name }}
{{- else }}{{ fail (printf "%s.serviceAccount.name is empty. Set it to an existing account, or set create." (last .)) }}{{ end }}
{{- end }}

{{- define "pantala.image" -}}
{{- $values := (first .).Values }}
{{- $image := (get $values (last .)).image }}
{{- with default $values.image.registry $image.registry }}{{ . }}/{{ end }}
{{- $image.repository }}
{{- if $image.digest }}@{{ $image.digest }}{{ else }}:{{ coalesce $image.tag $values.image.tag (first .).Chart.AppVersion }}{{ end }}
{{- end }}

{{- define "pantala.podMetadata" -}}
{{- $component := get (first .).Values (last .) -}}
labels:
  {{- $own := include "pantala.componentSelector" . | fromYaml }}
  {{- toYaml (mergeOverwrite (include "pantala.componentLabels" . | fromYaml) ($component.podLabels | default dict) $own) | nindent 2 }}
{{- with $component.podAnnotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* Service links are off. They would set PANTALA_* variables for Services, and the processes would read these as settings. */}}
{{- define "pantala.podSpec" -}}
{{- $root := first . }}
{{- $component := get $root.Values (last .) -}}
serviceAccountName: {{ include "pantala.serviceAccountName" . }}
enableServiceLinks: false
{{- /* A supernode that is removed hands over its tasks first. It exits when that is done, or after 600 s. */}}
terminationGracePeriodSeconds: {{ ternary 630 30 (eq (last .) "supernode") }}
{{- with $root.Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $component.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with $component.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $component.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $component.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- if $component.hostNetwork }}
hostNetwork: true
dnsPolicy: ClusterFirstWithHostNet
{{- end }}
{{- with $component.dnsConfig }}
dnsConfig:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* Spreads the pods over the nodes. A constraint without a selector selects the pods of the component. */}}
{{- define "pantala.spread" -}}
{{- $component := get (first .).Values (last .) }}
{{- $usual := dict "maxSkew" 1 "topologyKey" "kubernetes.io/hostname" "whenUnsatisfiable" "ScheduleAnyway" }}
{{- $selector := dict "labelSelector" (dict "matchLabels" (include "pantala.componentSelector" . | fromYaml)) }}
{{- $constraints := list }}
{{- range default (list $usual) $component.topologySpreadConstraints }}
{{- $constraint := deepCopy . }}
{{- if not (hasKey . "labelSelector") }}{{ $constraint = merge $constraint $selector }}{{ end }}
{{- $constraints = append $constraints $constraint }}
{{- end }}
topologySpreadConstraints:
  {{- toYaml $constraints | nindent 2 }}
{{- end }}

{{/* A number that is not set is chosen by the platform. */}}
{{- define "pantala.podSecurityContext" -}}
{{- $component := get (first .).Values (last .) -}}
{{- $numbers := $component.runAs | default dict -}}
runAsNonRoot: true
{{- range $field, $value := dict "runAsUser" $numbers.user "runAsGroup" $numbers.group "fsGroup" $numbers.fsGroup }}
{{- if not (kindIs "invalid" $value) }}
{{ $field }}: {{ $value | int64 }}
{{- end }}
{{- end }}
{{- if not (kindIs "invalid" $numbers.fsGroup) }}
fsGroupChangePolicy: OnRootMismatch
{{- end }}
seccompProfile:
  type: RuntimeDefault
{{- with $component.seLinuxOptions }}
seLinuxOptions:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* The user and the group of the peer's files on the nodes. */}}
{{- define "pantala.peerOwner" -}}
{{- $missing := "peer.runAs.%s is empty. The peer's files on a node need the same owner after each restart. Set a number." }}
{{- $numbers := .Values.peer.runAs | default dict }}
{{- required (printf $missing "user") $numbers.user | int64 }}:
{{- required (printf $missing "group") $numbers.group | int64 }}
{{- end }}

{{- define "pantala.securityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}

{{/* Takes the port's name. A pod is killed after a minute without an answer, even if its node lacks CPU. */}}
{{- define "pantala.probes" -}}
startupProbe:
  httpGet: {path: /healthz, port: {{ . }}}
  periodSeconds: 2
  timeoutSeconds: 5
  failureThreshold: 150
livenessProbe:
  httpGet: {path: /healthz, port: {{ . }}}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
readinessProbe:
  httpGet: {path: /readyz, port: {{ . }}}
  periodSeconds: 5
  timeoutSeconds: 5
  failureThreshold: 3
{{- end }}

{{/* The Secret and the ConfigMap with the authority. */}}
{{- define "pantala.tlsName" -}}
{{ include "pantala.fullname" . }}-tls
{{- end }}

{{/* The Secret that cert-manager fills. */}}
{{- define "pantala.issuerSecret" -}}
{{ include "pantala.fullname" . }}-issuer
{{- end }}

{{/* Flags for a process that gets its certificate from the operator. */}}
{{- define "pantala.tlsFlags" -}}
- --tls-dir=/var/run/pantala-tls
- --tls-ca=/var/run/pantala-ca/ca.crt
- --tls-authority=https://{{ include "pantala.componentName" (list . "operator") }}.{{ .Release.Namespace }}.svc:8443
{{- end }}

{{- define "pantala.tlsMounts" -}}
- name: tls
  mountPath: /var/run/pantala-tls
- name: authorities
  mountPath: /var/run/pantala-ca
  readOnly: true
{{- end }}

{{/* The pod starts once the operator has written the key into the ConfigMap. */}}
{{- define "pantala.tlsVolumes" -}}
- name: tls
  emptyDir:
    sizeLimit: 1Mi
- name: authorities
  configMap:
    name: {{ include "pantala.tlsName" . }}
    items:
      - key: ca.crt
        path: ca.crt
{{- end }}

{{/* The volume with the token that identifies the process to a supernode. */}}
{{- define "pantala.tokenVolume" -}}
name: token
projected:
  defaultMode: 0440
  sources:
    - serviceAccountToken:
        audience: pantala
        expirationSeconds: 600
        path: token
{{- end }}

{{- define "pantala.supernodeURL" -}}
{{ ternary "https" "http" .Values.tls.enabled }}://{{ include "pantala.componentName" (list . "supernode") }}.{{ .Release.Namespace }}.svc:8002
{{- end }}

{{- define "pantala.subject" -}}
system:serviceaccount:{{ (first .).Release.Namespace }}:{{ include "pantala.serviceAccountName" . }}
{{- end }}

{{/* Access to root's files on the node, and to nothing else. */}}
{{- define "pantala.rootSecurityContext" -}}
runAsNonRoot: false
runAsUser: 0
runAsGroup: 0
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
  add: [CHOWN, FOWNER, DAC_OVERRIDE]
{{- end }}

{{/* The parent folders of containerd's config_path, as JSON. Only the first one is written. */}}
{{- define "pantala.containerdParents" -}}
{{- $parents := list }}
{{- range splitList ":" .Values.mirror.certsD }}{{ $parents = append $parents (dir .) }}{{ end }}
{{- uniq $parents | toJson }}
{{- end }}

{{/* Mounts for the commands configure and cleanup. The paths are the same as on the node. */}}
{{- define "pantala.containerdMounts" -}}
{{- $mounts := list }}
{{- range $index, $parent := include "pantala.containerdParents" . | fromJsonArray }}
{{- $mount := dict "name" (printf "certs-%d" $index) "mountPath" $parent }}
{{- if $index }}{{ $mount = set $mount "readOnly" true }}{{ end }}
{{- $mounts = append $mounts $mount }}
{{- end }}
{{- toYaml $mounts }}
{{- end }}

{{/* Their type is not checked, so a node without such a folder can still run a peer. */}}
{{- define "pantala.containerdVolumes" -}}
{{- $volumes := list }}
{{- range $index, $parent := include "pantala.containerdParents" . | fromJsonArray }}
{{- $volumes = append $volumes (dict "name" (printf "certs-%d" $index) "hostPath" (dict "path" $parent "type" "")) }}
{{- end }}
{{- toYaml $volumes }}
{{- end }}

{{/* Flags for the commands configure and watch. */}}
{{- define "pantala.configureFlags" -}}
- --certs-d={{ .Values.mirror.certsD }}
- --containerd-state={{ .Values.peer.root }}/containerd
- --registries={{ join "," .Values.mirror.registries }}
- --mirror=http://127.0.0.1:65001
- --mirror-resolve={{ ternary "yes" "no" .Values.mirror.resolve }}
- --mirror-token-file={{ .Values.peer.root }}/mirror-token
- --mirror-token-owner={{ include "pantala.peerOwner" . }}
{{- end }}

{{/* Restores containerd's files exactly, and removes the peer's records of them, the token and the note about repairs. */}}
{{- define "pantala.cleanup" -}}
- pantala-peer
- cleanup
- --certs-d={{ .Values.mirror.certsD }}
- --containerd-state={{ .Values.peer.root }}/containerd
{{- end }}

{{/* Ends with one sentence if Pod Security would reject the peers' pods. Helm sees no namespace in `helm template`. */}}
{{- define "pantala.podSecurityCheck" -}}
{{- $label := "pod-security.kubernetes.io/enforce" }}
{{- if and .Values.podSecurity.check (lookup "v1" "Namespace" "" "kube-system") }}
{{- $namespace := lookup "v1" "Namespace" "" .Release.Namespace }}
{{- $level := .Values.podSecurity.clusterDefault }}
{{- if $namespace }}{{ $level = dig "metadata" "labels" $label $level $namespace }}{{ end }}
{{- if ne $level "privileged" }}
{{- $create := ternary "" (printf "kubectl create namespace %s && " .Release.Namespace) (not (empty $namespace)) }}
{{- fail (printf "\n\nThe namespace %s enforces the Pod Security level %q, which forbids the hostPath volumes of the peers. Run: %skubectl label --overwrite namespace %s %s=privileged\n" .Release.Namespace $level $create .Release.Namespace $label) }}
{{- end }}
{{- end }}
{{- end }}

{{/*
The state of the supernodes' StatefulSet in the cluster, as JSON: `{}` if Helm does not see one with volumes. `differs` is
set if its volumes have another size than the values say.
*/}}
{{- define "pantala.volumes" -}}
{{- $disk := .Values.supernode.persistence }}
{{- $name := include "pantala.componentName" (list . "supernode") }}
{{- $state := dict }}
{{- range dig "spec" "volumeClaimTemplates" list (lookup "apps/v1" "StatefulSet" .Release.Namespace $name | default dict) }}
{{- $size := .spec.resources.requests.storage }}
{{- $state = dict "size" $size "differs" (ne $size $disk.size) }}
{{- end }}
{{- toJson $state }}
{{- end }}

{{/* Ends with one sentence if the volumes should grow and their StorageClass does not allow it. */}}
{{- define "pantala.volumesCheck" -}}
{{- if (include "pantala.volumes" . | fromJson).differs }}
{{- $claim := lookup "v1" "PersistentVolumeClaim" .Release.Namespace (printf "data-%s-0" (include "pantala.componentName" (list . "supernode"))) }}
{{- with dig "spec" "storageClassName" "" ($claim | default dict) }}
{{- $class := lookup "storage.k8s.io/v1" "StorageClass" "" . }}
{{- if and $class (not $class.allowVolumeExpansion) }}
{{- $size := (include "pantala.volumes" $ | fromJson).size }}
{{- fail (printf "\n\nThe supernodes' volumes have the StorageClass %s, which does not allow another size. Keep supernode.persistence.size: %s. Or, for larger volumes, if the provisioner can expand them, run: kubectl patch storageclass %s --patch '{\"allowVolumeExpansion\": true}'\n" . $size .) }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{/* True if the chart renders the hook that makes volumes larger. */}}
{{- define "pantala.grows" -}}
{{- $disk := .Values.supernode.persistence }}
{{- and $disk.enabled (not $disk.existingClaim) (ne $disk.growth "Never") }}
{{- end }}

{{/*
Annotations of that hook. Takes the root context and a weight. A rollback always runs it, because Helm then renders
nothing. An upgrade runs it if the sizes differ.
*/}}
{{- define "pantala.growthHook" -}}
{{- $state := include "pantala.volumes" (first .) | fromJson }}
{{- $always := eq (first .).Values.supernode.persistence.growth "Always" }}
helm.sh/hook: {{ if or $state.differs $always }}pre-upgrade,{{ end }}pre-rollback
helm.sh/hook-weight: {{ last . | quote }}
helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded,hook-failed
{{- end }}

{{/* The pods of hooks that run the operator's image. */}}
{{- define "pantala.hookPodSpec" -}}
enableServiceLinks: false
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.operator.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .Values.operator.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.operator.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
securityContext:
  {{- include "pantala.podSecurityContext" (list . "operator") | nindent 2 }}
{{- end }}

{{- define "pantala.hookContainer" -}}
resources:
  requests:
    cpu: 10m
    memory: 64Mi
  limits:
    memory: 192Mi
securityContext:
  {{- include "pantala.securityContext" . | nindent 2 }}
volumeMounts:
  - name: tmp
    mountPath: /tmp
{{- end }}

{{- define "pantala.testHook" -}}
helm.sh/hook: test
helm.sh/hook-weight: {{ . | quote }}
helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded,hook-failed
{{- end }}

{{- define "pantala.uninstallRights" -}}
helm.sh/hook: post-delete
helm.sh/hook-weight: "-1"
helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded,hook-failed
{{- end }}

{{/* The role that may get Secrets. Administrators of namespaces bind it. */}}
{{- define "pantala.secretReader" -}}
{{- printf "%s-secret-reader" (include "pantala.fullname" .) }}
{{- end }}

{{/* The supernode's list of registries: the names, then each mapping as name=URL, in order. */}}
{{- define "pantala.registries" -}}
{{- $entries := .Values.mirror.registries | default list }}
{{- range $name, $entry := .Values.registries }}
{{- range $entry.endpoints | default (compact (list $entry.endpoint)) }}
{{- $entries = append $entries (printf "%s=%s" $name .) }}
{{- end }}
{{- end }}
{{- join "," $entries }}
{{- end }}

{{/* The hosts of token servers that may get the passwords of a registry, as name=host. */}}
{{- define "pantala.realms" -}}
{{- $entries := list }}
{{- range $name, $entry := .Values.registries }}
{{- range $entry.realms }}
{{- $entries = append $entries (printf "%s=%s" $name .) }}
{{- end }}
{{- end }}
{{- join "," $entries }}
{{- end }}

{{/* The flag --quotas of the operator and the supernodes. Empty without quotas. */}}
{{- define "pantala.quotas" -}}
{{- $all := dict "*" .Values.quotas.default }}
{{- range $namespace, $quota := .Values.quotas.namespaces }}
{{- $all = set $all $namespace $quota }}
{{- end }}
{{- $parts := list }}
{{- range $namespace := keys $all | sortAlpha }}
{{- $limits := list }}
{{- $quota := get $all $namespace }}
{{- range $name, $value := dict "bytes" $quota.bytes "daily" $quota.bytesPerDay "tasks" $quota.tasks }}
{{- if and (ne $value nil) (ne (toString $value) "") }}
{{- $limits = append $limits (printf "%s:%s" $name (ternary (toString $value) (printf "%d" (int64 $value)) (kindIs "string" $value))) }}
{{- end }}
{{- end }}
{{- with $limits }}
{{- $parts = append $parts (printf "%s=%s" $namespace (join ";" .)) }}
{{- end }}
{{- end }}
{{- join "," $parts }}
{{- end }}
