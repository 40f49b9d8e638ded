package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestFaults puts one fault into a good manifest and expects that it is named.
func TestFaults(t *testing.T) {
	faults := []struct{ file, old, new, named string }{
		{"gateway.yaml", "readOnlyRootFilesystem: true", "readOnlyRootFilesystm: true", "unknown field"},
		{"gateway.yaml", "readOnlyRootFilesystem: true", "readOnlyRootFilesystem: false", "readOnlyRootFilesystem must be true"},
		{"gateway.yaml", "allowPrivilegeEscalation: false", "privileged: true", "must not be privileged"},
		{"gateway.yaml", "allowPrivilegeEscalation: false", "allowPrivilegeEscalation: true", "allowPrivilegeEscalation must be false"},
		{"gateway.yaml", "replicas: 1", "replicas: one", "cannot unmarshal string"},
		{"gateway.yaml", "defaultMode: 0400", "defaultMode: 0444", "must have defaultMode 0400"},
		{"gateway.yaml", "drop: [ALL]", "drop: [NET_RAW]", "must drop ALL"},
		{"gateway.yaml", "NET_BIND_SERVICE", "SYS_ADMIN", "SYS_ADMIN is not needed"},
		{"gateway.yaml", "type: RuntimeDefault", "type: Unconfined", "seccompProfile must be RuntimeDefault"},
		{"gateway.yaml", "medium: Memory", `medium: ""`, "must be an emptyDir in memory"},
		{"gateway.yaml", "targetPort: loki", "targetPort: lokki", "service loki-seed"},
		{"gateway.yaml", "secretName: seedwire-keys", "secretName: keys", "secret keys is not here"},
		{"gateway.yaml", "path: /livez", "path: /readyz", "no liveness probe"},
		{"gateway.yaml", "limits: {memory: 64Mi}", "limits: {}", "no CPU request or memory limit"},
		{"hub.yaml", "runAsUser: 0", "runAsUser: 1000", "runAsUser 0 alone"},
		{"edge.yaml", "type: CharDevice", "type: File", "must be a hostPath CharDevice"},
		{"edge.yaml", "mountPath: /dev/net/tun", "mountPath: /dev/tun", "must be a hostPath CharDevice"},
		{"promtail-sidecar.yaml", "path: /startupz", "path: /readyz", "startup probe on /startupz"},
		{"promtail-sidecar.yaml", "restartPolicy: Always\n", "restartPolicy: Never\n", "restartPolicy Always"},
		{"promtail-sidecar.yaml", "serviceAccountName: promtail", "serviceAccountName: other", "service account other is not here"},
		{"promtail-sidecar.yaml", "port: seedwire", "port: other", "which it lacks"},
		{"promtail-sidecar.yaml", "name: positions, mountPath", "name: place, mountPath", "which the pod lacks"},
	}
	for _, fault := range faults {
		good, err := os.ReadFile(filepath.Join("../kubernetes", fault.file))
		if err != nil {
			t.Fatal(err)
		}
		bad := strings.ReplaceAll(string(good), fault.old, fault.new)
		if bad == string(good) {
			t.Errorf("%s does not hold %q", fault.file, fault.old)
		}
		path := filepath.Join(t.TempDir(), fault.file)
		if err := os.WriteFile(path, []byte(bad), 0o600); err != nil {
			t.Fatal(err)
		}
		named := false
		file, problems := read(path)
		for _, problem := range append(problems, file.check()...) {
			named = named || strings.Contains(problem.Error(), fault.named)
		}
		if !named {
			t.Errorf("%s with %q: %q is not named", fault.file, fault.new, fault.named)
		}
	}
}
