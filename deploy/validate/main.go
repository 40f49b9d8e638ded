// Checks manifests without a cluster: every object decodes strictly into the Kubernetes API types,
// what objects refer to is there, and seedwire's containers have the least privilege that they need.
//
//	go run . FILE...
//
// Each file stands alone, as it is applied alone.
package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"k8s.io/apimachinery/pkg/util/yaml"
)

func main() {
	failed := false
	objects := 0
	for _, path := range os.Args[1:] {
		file, problems := read(path)
		problems = append(problems, file.check()...)
		for _, problem := range problems {
			fmt.Fprintf(os.Stderr, "%s: %s\n", filepath.Base(path), problem)
			failed = true
		}
		objects += file.objects
	}
	if objects == 0 {
		fmt.Fprintln(os.Stderr, "no objects found")
		failed = true
	}
	if failed {
		os.Exit(1)
	}
	fmt.Printf("manifests ok: %d objects in %d files\n", objects, len(os.Args)-1)
}

// manifest is what a file holds, as far as other objects refer to it.
type manifest struct {
	objects    int
	workloads  []workload
	services   []*corev1.Service
	configMaps map[string]bool
	secrets    map[string]bool
	accounts   map[string]bool
}

// workload is an object that makes pods; one that finds them again by their labels has a selector.
type workload struct {
	name     string
	selector *metav1.LabelSelector
	pod      corev1.PodTemplateSpec
}

func read(path string) (manifest, []error) {
	m := manifest{configMaps: map[string]bool{}, secrets: map[string]bool{}, accounts: map[string]bool{}}
	text, err := os.ReadFile(path)
	if err != nil {
		return m, []error{err}
	}
	var problems []error
	types := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{appsv1.AddToScheme, batchv1.AddToScheme, corev1.AddToScheme, rbacv1.AddToScheme} {
		utilruntime.Must(add(types))
	}
	decoder := serializer.NewCodecFactory(types, serializer.EnableStrict).UniversalDeserializer()
	documents := yaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(text)))
	for {
		document, err := documents.Read()
		if errors.Is(err, io.EOF) {
			return m, problems
		}
		if err != nil {
			return m, append(problems, err)
		}
		problems = append(problems, m.decode(decoder, document)...)
	}
}

// decode takes an object, or each of a List.
func (m *manifest) decode(decoder runtime.Decoder, document []byte) []error {
	object, kind, err := decoder.Decode(document, nil, nil)
	if err != nil {
		return []error{fmt.Errorf("%v: %w", kind, err)}
	}
	list, isList := object.(*corev1.List)
	if !isList {
		m.objects++
		m.add(object)
		return nil
	}
	var problems []error
	for _, item := range list.Items {
		problems = append(problems, m.decode(decoder, item.Raw)...)
	}
	return problems
}

func (m *manifest) add(object runtime.Object) {
	switch o := object.(type) {
	case *appsv1.DaemonSet:
		m.workloads = append(m.workloads, workload{o.Name, o.Spec.Selector, o.Spec.Template})
	case *appsv1.Deployment:
		m.workloads = append(m.workloads, workload{o.Name, o.Spec.Selector, o.Spec.Template})
	case *appsv1.StatefulSet:
		m.workloads = append(m.workloads, workload{o.Name, o.Spec.Selector, o.Spec.Template})
	case *batchv1.Job:
		m.workloads = append(m.workloads, workload{o.Name, nil, o.Spec.Template})
	case *batchv1.CronJob:
		m.workloads = append(m.workloads, workload{o.Name, nil, o.Spec.JobTemplate.Spec.Template})
	case *corev1.Pod:
		m.workloads = append(m.workloads, workload{o.Name, nil, corev1.PodTemplateSpec{ObjectMeta: o.ObjectMeta, Spec: o.Spec}})
	case *corev1.Service:
		m.services = append(m.services, o)
	case *corev1.ConfigMap:
		m.configMaps[o.Name] = true
	case *corev1.Secret:
		m.secrets[o.Name] = true
	case *corev1.ServiceAccount:
		m.accounts[o.Name] = true
	}
}

func (m *manifest) check() []error {
	var problems []error
	for _, w := range m.workloads {
		for _, problem := range append(m.references(w), privileges(w.pod.Spec)...) {
			problems = append(problems, fmt.Errorf("%s: %w", w.name, problem))
		}
	}
	for _, s := range m.services {
		if !m.served(s) {
			problems = append(problems, fmt.Errorf("service %s: no pod here has its labels and ports", s.Name))
		}
	}
	return problems
}
