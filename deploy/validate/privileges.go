package main

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// privileges finds what a pod with seedwire in it may do and need not, or needs and may not.
func privileges(spec corev1.PodSpec) []error {
	var problems []error
	wrong := func(format string, args ...any) { problems = append(problems, fmt.Errorf(format, args...)) }

	for _, v := range spec.Volumes {
		if v.Secret != nil && (v.Secret.DefaultMode == nil || *v.Secret.DefaultMode != 0o400) {
			wrong("secret volume %s must have defaultMode 0400", v.Name)
		}
	}
	sidecars := len(spec.InitContainers)
	for i, c := range append(spec.InitContainers, spec.Containers...) {
		if !strings.Contains(c.Image, "seedwire") {
			continue
		}
		for _, problem := range container(spec, c) {
			wrong("container %s: %s", c.Name, problem)
		}
		if i >= sidecars {
			continue
		}
		if i != 0 || c.RestartPolicy == nil || *c.RestartPolicy != corev1.ContainerRestartPolicyAlways {
			wrong("container %s: a sidecar is the first of the init containers and has restartPolicy Always", c.Name)
		}
		if c.StartupProbe == nil || c.StartupProbe.HTTPGet == nil || c.StartupProbe.HTTPGet.Path != "/startupz" {
			wrong("container %s: a sidecar has a startup probe on /startupz", c.Name)
		}
		if c.ReadinessProbe != nil {
			wrong("container %s: a readiness probe here makes the agent's pod unready with the tunnel", c.Name)
		}
	}
	return problems
}

func container(spec corev1.PodSpec, c corev1.Container) []string {
	var problems []string
	require := func(holds bool, problem string) {
		if !holds {
			problems = append(problems, problem)
		}
	}
	s := c.SecurityContext
	if s == nil || s.Capabilities == nil {
		return []string{"no securityContext with capabilities"}
	}
	isFalse := func(b *bool) bool { return b != nil && !*b }
	isTrue := func(b *bool) bool { return b != nil && *b }
	require(isFalse(s.AllowPrivilegeEscalation), "allowPrivilegeEscalation must be false")
	require(isTrue(s.ReadOnlyRootFilesystem), "readOnlyRootFilesystem must be true")
	require(s.Privileged == nil || !*s.Privileged, "must not be privileged")
	require(s.SeccompProfile != nil && s.SeccompProfile.Type == corev1.SeccompProfileTypeRuntimeDefault, "seccompProfile must be RuntimeDefault")
	require(slices.Equal(s.Capabilities.Drop, []corev1.Capability{"ALL"}), "capabilities must drop ALL")
	for _, added := range s.Capabilities.Add {
		require(added == "NET_ADMIN" || added == "NET_BIND_SERVICE", fmt.Sprintf("capability %s is not needed", added))
	}
	if slices.Contains(s.Capabilities.Add, "NET_ADMIN") {
		require(s.RunAsUser != nil && *s.RunAsUser == 0, "NET_ADMIN takes effect for runAsUser 0 alone")
		require(mounts(spec, c, "/dev/net/tun", func(v corev1.Volume) bool {
			return v.HostPath != nil && v.HostPath.Path == "/dev/net/tun" && v.HostPath.Type != nil && *v.HostPath.Type == corev1.HostPathCharDev
		}), "/dev/net/tun must be a hostPath CharDevice")
	}
	require(mounts(spec, c, "/run/seedwire", func(v corev1.Volume) bool {
		return v.EmptyDir != nil && v.EmptyDir.Medium == corev1.StorageMediumMemory
	}), "/run/seedwire must be an emptyDir in memory")
	require(c.LivenessProbe != nil && c.LivenessProbe.HTTPGet != nil && c.LivenessProbe.HTTPGet.Path == "/livez", "no liveness probe on /livez")
	require(!c.Resources.Requests.Cpu().IsZero() && !c.Resources.Limits.Memory().IsZero(), "no CPU request or memory limit")
	return problems
}

func mounts(spec corev1.PodSpec, c corev1.Container, path string, right func(corev1.Volume) bool) bool {
	for _, mount := range c.VolumeMounts {
		for _, v := range spec.Volumes {
			if mount.MountPath == path && v.Name == mount.Name {
				return right(v)
			}
		}
	}
	return false
}
