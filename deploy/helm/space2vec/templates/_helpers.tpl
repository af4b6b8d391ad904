{{- define "space2vec.name" -}}
{{- if contains .Chart.Name .Release.Name }}{{ .Release.Name }}{{ else }}{{ .Release.Name }}-{{ .Chart.Name }}{{ end -}}
{{- end }}

{{- define "space2vec.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "space2vec.labels" -}}
{{ include "space2vec.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{/* GPUs of one service, rounded up; "0" for none. */}}
{{- define "space2vec.gpus" -}}
{{- ceil (mulf (.Values.settings.ray.gpus_per_classifier | default 0) (max (.Values.settings.ray.classifiers | default 1 | int) (.Values.settings.ray.max_classifiers | default 0 | int))) | int -}}
{{- end }}

{{- define "space2vec.image" -}}
{{- $flavour := ternary "cpu" "cuda" (eq (include "space2vec.gpus" .) "0") -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default (printf "%s-%s" .Chart.AppVersion $flavour) }}
{{- end }}

{{/* The drain budget and half a minute: late workers, and Ray's own end. */}}
{{- define "space2vec.grace" -}}
{{- add (ceil ((.Values.settings.stream).drain_s | default 25) | int) 35 -}}
{{- end }}

{{/* What would run and be of no use, or run and not do what was meant: refused. */}}
{{- define "space2vec.check" -}}
{{- $workers := max (.Values.settings.ray.workers | default 1 | int) (.Values.settings.ray.max_workers | default 0 | int) -}}
{{- $pods := ternary (.Values.replicas | int) 1 (eq .Values.mode "pods") -}}
{{- if and .Values.keda.enabled (eq .Values.mode "pods") -}}
{{- $pods = .Values.keda.maxReplicas | int -}}
{{- end -}}
{{- if gt (mul $pods $workers) (.Values.partitions | int64) -}}
{{- fail (printf "%d pods of %d stream workers for %d partitions: those beyond would be idle; lower replicas, keda.maxReplicas, settings.ray.workers or settings.ray.max_workers, or say how many partitions there are" $pods $workers (.Values.partitions | int)) -}}
{{- end -}}
{{- if and .Values.keda.enabled (ne .Values.mode "pods") -}}
{{- fail "keda.enabled goes with mode pods: a RayCluster has nothing that KEDA could scale" -}}
{{- end -}}
{{- if and .Values.keda.enabled (gt (.Values.keda.minReplicas | int) (.Values.keda.maxReplicas | int)) -}}
{{- fail "keda.minReplicas is more than keda.maxReplicas" -}}
{{- end -}}
{{- $sink := (.Values.settings.sink).brokers | default "" -}}
{{- if and .Values.keda.enabled $sink (ne $sink .Values.settings.source.brokers) -}}
{{- fail "keda.enabled needs source and sink on one cluster: else the group's offsets are not where KEDA's Kafka scaler looks for the lag" -}}
{{- end -}}
{{- range $section := list "source" "sink" -}}
{{- $secret := index $.Values.secrets $section -}}
{{- $user := (index $.Values.settings $section | default dict).username -}}
{{- if and $user (not $secret.name) -}}
{{- fail (printf "settings.%s.username is set: name the Secret with its password in secrets.%s.name" $section $section) -}}
{{- end -}}
{{- end -}}
{{- if .Values.strimzi.enabled -}}
{{- $_ := required "strimzi.cluster: the name of the Kafka resource" .Values.strimzi.cluster -}}
{{- end -}}
{{- end }}

{{/* space2vec's settings file: `settings`, and what follows from the rest. */}}
{{- define "space2vec.settings" -}}
{{- $settings := deepCopy .Values.settings -}}
{{- range $section := list "source" "sink" -}}
{{- $secret := index $.Values.secrets $section -}}
{{- if $secret.name -}}
{{- $cluster := deepCopy (index $settings $section | default dict) -}}
{{- if $cluster.username -}}
{{- $_ := set $cluster "password_file" (printf "/etc/space2vec/secrets/%s/%s" $section $secret.passwordKey) -}}
{{- end -}}
{{- if $secret.caKey -}}
{{- $options := merge (dict "ssl.ca.location" (printf "/etc/space2vec/secrets/%s/%s" $section $secret.caKey)) ($cluster.options | default dict) -}}
{{- $_ := set $cluster "options" $options -}}
{{- end -}}
{{- $_ := set $settings $section $cluster -}}
{{- end -}}
{{- end -}}
{{- $_ := set $settings "metrics" (dict "host" "0.0.0.0" "port" 9108) -}}
{{- toYaml $settings -}}
{{- end }}

{{- define "space2vec.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "space2vec.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{- define "space2vec.volumes" -}}
- name: settings
  configMap: {name: {{ include "space2vec.name" . }}}
- name: tmp
  emptyDir: {sizeLimit: {{ .Values.scratch }}}
- name: shm
  emptyDir: {medium: Memory, sizeLimit: {{ .Values.sharedMemory }}}
{{- range $section := list "source" "sink" }}
{{- with (index $.Values.secrets $section).name }}
- name: secret-{{ $section }}
  secret: {secretName: {{ . }}, defaultMode: 0440}
{{- end }}
{{- end }}
{{- with .Values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "space2vec.mounts" -}}
- {name: settings, mountPath: /etc/space2vec/settings, readOnly: true}
- {name: tmp, mountPath: /tmp}
- {name: shm, mountPath: /dev/shm}
{{- range $section := list "source" "sink" }}
{{- if (index $.Values.secrets $section).name }}
- {name: secret-{{ $section }}, mountPath: /etc/space2vec/secrets/{{ $section }}, readOnly: true}
{{- end }}
{{- end }}
{{- with .Values.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* The service's container, but for its environment and GPUs. */}}
{{- define "space2vec.service" -}}
name: space2vec
image: {{ include "space2vec.image" . }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
args: [run, --config, /etc/space2vec/settings/settings.yaml]
ports:
  - {name: http, containerPort: 9108}
# It listens once its settings are read; how long Ray and the classifiers take after that is readiness' concern.
startupProbe:
  httpGet: {path: /livez, port: http}
  periodSeconds: 2
  failureThreshold: 60
livenessProbe:
  httpGet: {path: /livez, port: http}
  periodSeconds: 15
  timeoutSeconds: 5
readinessProbe:
  httpGet: {path: /readyz, port: http}
  periodSeconds: 5
  timeoutSeconds: 5
securityContext:
  {{- include "space2vec.containerSecurity" . | nindent 2 }}
volumeMounts:
  {{- include "space2vec.mounts" . | nindent 2 }}
{{- end }}
