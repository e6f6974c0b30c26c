{{- define "hackwatch.name" -}}
{{- $name := .Release.Name -}}
{{- if not (contains .Chart.Name $name) }}{{ $name = printf "%s-%s" $name .Chart.Name }}{{ end -}}
{{- $name | trunc 50 | trimSuffix "-" -}}
{{- end }}

{{- define "hackwatch.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: engine
{{- end }}

{{- define "hackwatch.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{ include "hackwatch.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- define "hackwatch.serviceAccount" -}}
{{ .Values.serviceAccount.name | default (include "hackwatch.name" .) }}
{{- end }}

{{- define "hackwatch.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{- define "hackwatch.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
# Not `Always`: that would open the private data folder to the group at every start, and hackwatch would refuse it.
fsGroupChangePolicy: OnRootMismatch
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "hackwatch.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{- /* What Spark must be told to run its executors in this cluster; `spark.conf` of the values wins. */ -}}
{{- define "hackwatch.sparkConf" -}}
spark.driver.host: {{ include "hackwatch.name" . }}-0.{{ include "hackwatch.name" . }}.{{ .Release.Namespace }}.svc
spark.driver.bindAddress: 0.0.0.0
spark.driver.port: "7078"
spark.driver.memory: {{ .Values.spark.driverMemory }}
spark.blockManager.port: "7079"
spark.executor.instances: {{ .Values.spark.executors | quote }}
spark.executor.cores: {{ .Values.spark.executorCores | quote }}
spark.executor.memory: {{ .Values.spark.executorMemory }}
spark.executor.memoryOverheadFactor: "0.5"
spark.sql.shuffle.partitions: {{ mul .Values.spark.executors .Values.spark.executorCores | quote }}
spark.kubernetes.namespace: {{ .Release.Namespace }}
spark.kubernetes.driver.pod.name: {{ include "hackwatch.name" . }}-0
spark.kubernetes.container.image: {{ include "hackwatch.image" . }}
spark.kubernetes.container.image.pullPolicy: {{ .Values.image.pullPolicy }}
spark.kubernetes.executor.podTemplateFile: /etc/hackwatch/executor.yaml
spark.kubernetes.executor.podNamePrefix: {{ include "hackwatch.name" . }}
{{- with .Values.image.pullSecrets }}
spark.kubernetes.container.image.pullSecrets: {{ range $i, $s := . }}{{ if $i }},{{ end }}{{ $s.name }}{{ end }}
{{- end }}
{{- end }}
