{{- define "sessiontape.fullname" -}}
{{- if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 48 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 48 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "sessiontape.image" -}}
{{- printf "%s:%s" .Values.image.repository (.Values.image.tag | default .Chart.AppVersion) -}}
{{- end -}}

{{- define "sessiontape.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "sessiontape.labels" -}}
{{ include "sessiontape.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{- /* What every process is told; given the root and the user that it comes in as. */ -}}
{{- define "sessiontape.env" -}}
{{- $kafka := .root.Values.kafka -}}
{{- $user := .user | default dict -}}
- name: SESSIONTAPE_BOOTSTRAP_SERVERS
  value: {{ required "kafka.bootstrapServers: host:port of the brokers, with commas between" $kafka.bootstrapServers | quote }}
- name: SESSIONTAPE_NAMESPACE
  value: {{ .root.Values.namespace | default .root.Release.Name | quote }}
- name: SESSIONTAPE_PARTITIONS
  value: {{ $kafka.partitions | quote }}
- name: SESSIONTAPE_REPLICATION
  value: {{ $kafka.replication | quote }}
- name: SESSIONTAPE_DATA_DIR
  value: /data
- name: HOME
  value: /tmp
- name: PYTHONDONTWRITEBYTECODE
  value: "1"
- name: SESSIONTAPE_SECURITY_PROTOCOL
  value: {{ $kafka.securityProtocol }}
{{- if hasPrefix "SASL" $kafka.securityProtocol }}
- name: SESSIONTAPE_SASL_MECHANISM
  value: {{ $kafka.sasl.mechanism }}
- name: SESSIONTAPE_SASL_USERNAME
  value: {{ required "kafka.sasl.username: who the workers are to the brokers" ($user.username | default $kafka.sasl.username) | quote }}
- name: SESSIONTAPE_SASL_PASSWORD
  valueFrom:
    secretKeyRef:
      name: {{ required "kafka.sasl.secret: the secret with the password" ($user.secret | default $kafka.sasl.secret) }}
      key: {{ $kafka.sasl.passwordKey }}
{{- end }}
{{- if hasSuffix "SSL" $kafka.securityProtocol }}
{{- if $kafka.tls.caSecret }}
- name: SESSIONTAPE_SSL_CA_LOCATION
  value: /etc/sessiontape/ca/{{ $kafka.tls.caKey }}
{{- end }}
{{- if $kafka.tls.clientSecret }}
- name: SESSIONTAPE_SSL_CERTIFICATE_LOCATION
  value: /etc/sessiontape/client/{{ $kafka.tls.certKey }}
- name: SESSIONTAPE_SSL_KEY_LOCATION
  value: /etc/sessiontape/client/{{ $kafka.tls.keyKey }}
{{- end }}
{{- end }}
{{- range $name, $value := .root.Values.settings }}
- name: SESSIONTAPE_{{ $name }}
  value: {{ $value | quote }}
{{- end }}
{{- end -}}

{{- define "sessiontape.mounts" -}}
- name: data
  mountPath: /data
- name: tmp
  mountPath: /tmp
{{- if hasSuffix "SSL" .Values.kafka.securityProtocol }}
{{- if .Values.kafka.tls.caSecret }}
- name: ca
  mountPath: /etc/sessiontape/ca
  readOnly: true
{{- end }}
{{- if .Values.kafka.tls.clientSecret }}
- name: client
  mountPath: /etc/sessiontape/client
  readOnly: true
{{- end }}
{{- end }}
{{- end -}}

{{- define "sessiontape.volumes" -}}
- name: data
  emptyDir:
    sizeLimit: {{ .Values.scratch.sizeLimit }}
- name: tmp
  emptyDir:
    sizeLimit: {{ .Values.scratch.sizeLimit }}
{{- if hasSuffix "SSL" .Values.kafka.securityProtocol }}
{{- if .Values.kafka.tls.caSecret }}
- name: ca
  secret:
    secretName: {{ .Values.kafka.tls.caSecret }}
    items:
      - key: {{ .Values.kafka.tls.caKey }}
        path: {{ .Values.kafka.tls.caKey }}
{{- end }}
{{- if .Values.kafka.tls.clientSecret }}
- name: client
  secret:
    secretName: {{ .Values.kafka.tls.clientSecret }}
    defaultMode: 0440
{{- end }}
{{- end }}
{{- end -}}

{{- define "sessiontape.podSecurity" -}}
runAsNonRoot: true
runAsUser: {{ .Values.runAsUser }}
runAsGroup: {{ .Values.runAsUser }}
fsGroup: {{ .Values.runAsUser }}
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "sessiontape.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}

{{- /* Where a pod may stand, and as whom it is known to the cluster. */ -}}
{{- define "sessiontape.place" -}}
automountServiceAccountToken: false
{{- with .Values.serviceAccount.name }}
serviceAccountName: {{ . }}
{{- end }}
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}
