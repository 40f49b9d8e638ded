package main

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// references finds what a workload names and the file lacks.
func (m *manifest) references(w workload) []error {
	var problems []error
	missing := func(format string, args ...any) { problems = append(problems, fmt.Errorf(format, args...)) }

	if w.selector != nil && (len(w.selector.MatchLabels) == 0 || !labels.SelectorFromSet(w.selector.MatchLabels).Matches(labels.Set(w.pod.Labels))) {
		missing("the selector does not match the pod's labels")
	}
	spec := w.pod.Spec
	if name := spec.ServiceAccountName; name != "" && !m.accounts[name] {
		missing("service account %s is not here", name)
	}
	volumes := map[string]bool{}
	for _, v := range spec.Volumes {
		volumes[v.Name] = true
		if v.ConfigMap != nil && !m.configMaps[v.ConfigMap.Name] {
			missing("config map %s is not here", v.ConfigMap.Name)
		}
		if v.Secret != nil && !m.secrets[v.Secret.SecretName] {
			missing("secret %s is not here", v.Secret.SecretName)
		}
	}
	mounted := map[string]bool{}
	for _, c := range append(spec.InitContainers, spec.Containers...) {
		for _, mount := range c.VolumeMounts {
			mounted[mount.Name] = true
			if !volumes[mount.Name] {
				missing("container %s mounts volume %s, which the pod lacks", c.Name, mount.Name)
			}
		}
		for _, probe := range []*corev1.Probe{c.StartupProbe, c.LivenessProbe, c.ReadinessProbe} {
			if probe != nil && probe.HTTPGet != nil && !hasPort(c, probe.HTTPGet.Port.String()) {
				missing("container %s is probed at port %s, which it lacks", c.Name, probe.HTTPGet.Port.String())
			}
		}
	}
	for name := range volumes {
		if !mounted[name] {
			missing("volume %s is mounted nowhere", name)
		}
	}
	return problems
}

// served says whether pods of the file have the labels and named ports of a service.
func (m *manifest) served(s *corev1.Service) bool {
	for _, w := range m.workloads {
		if len(s.Spec.Selector) == 0 || !labels.SelectorFromSet(s.Spec.Selector).Matches(labels.Set(w.pod.Labels)) {
			continue
		}
		all := true
		for _, port := range s.Spec.Ports {
			found := false
			for _, c := range append(w.pod.Spec.InitContainers, w.pod.Spec.Containers...) {
				found = found || hasPort(c, port.TargetPort.String())
			}
			all = all && found
		}
		if all {
			return true
		}
	}
	return false
}

func hasPort(c corev1.Container, port string) bool {
	for _, p := range c.Ports {
		if p.Name == port || fmt.Sprint(p.ContainerPort) == port {
			return true
		}
	}
	return false
}
