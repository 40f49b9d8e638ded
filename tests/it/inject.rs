//! `seedwire inject` and `seedwire uninject` on manifests as charts render them, and every reason
//! why a pod can't take the sidecar. `make manifests` checks what is written against the types of
//! Kubernetes.

use std::process::Output;

use crate::run::{Folder, output, seedwire, stderr, stdout};

/// The folder of the manifests; each holds what a namespace needs.
const MANIFESTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/inject/");
const DNS: [&str; 4] = ["--mode", "dns", "--cluster-dns", "10.96.0.10"];

fn manifest(name: &str) -> String {
    let text = std::fs::read_to_string(format!("{MANIFESTS}{name}"));
    text.expect("the manifest can be read")
}

fn inject(arguments: &[&str], input: &str) -> Output {
    output(seedwire().arg("inject").args(arguments), input.as_bytes())
}

fn uninject(input: &str) -> String {
    let output = output(seedwire().arg("uninject"), input.as_bytes());
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    stdout(&output)
}

#[test]
fn the_sidecar_goes_in_once_and_out_without_a_trace() {
    let cases: [(&str, &[&str], usize); 4] = [
        ("daemonset.yaml", &[], 1),
        ("daemonset.yaml", &DNS, 1),
        ("statefulset.yaml", &[], 1),
        ("shared.yaml", &[], 4),
    ];
    for (name, arguments, pods) in cases {
        let text = manifest(name);
        let once = inject(arguments, &text);
        assert_eq!(
            (once.status.code(), &*stderr(&once)),
            (Some(0), ""),
            "{name}"
        );
        let once = stdout(&once);
        assert_eq!(once.matches("path: /startupz").count(), pods, "{name}");
        assert_eq!(stdout(&inject(arguments, &once)), once, "{name}");
        let normalised = uninject(&text);
        assert_eq!(uninject(&once), normalised, "{name}");
        assert_eq!(uninject(&normalised), normalised, "{name}");
    }
}

#[test]
fn the_sidecar_is_what_it_is_said_to_be() {
    let options = [
        "--image",
        "example.com/s:1",
        "--config-map",
        "c",
        "--secret",
        "s",
    ];
    let pod = "apiVersion: v1\nkind: Pod\nmetadata:\n  name: a\nspec:\n  initContainers:\n  \
         - name: first\n  containers: [{name: a}]\n";
    assert_eq!(
        stdout(&inject(&options, pod)),
        manifest("expected/pod.yaml")
    );
}

#[test]
fn with_the_mode_dns_seedwire_is_the_only_nameserver() {
    let text = stdout(&inject(&DNS, &manifest("daemonset.yaml")));
    let expected = "      dnsPolicy: None
      dnsConfig:
        nameservers:
          - \"127.0.0.1\"
        searches:
          - monitoring.svc.cluster.local
          - svc.cluster.local
          - cluster.local
          - example.com
        options:
          - name: edns0
          - name: ndots
            value: \"5\"
";
    assert!(text.contains(expected), "{text}");
    let variable = "            - name: CLUSTER_DNS_1\n              value: \"10.96.0.10\"\n";
    assert!(text.contains(variable), "{text}");
}

#[test]
fn in_a_cluster_of_ipv6_alone_the_nameserver_is_too() {
    let pod = "{apiVersion: v1, kind: Pod, metadata: {name: a}, spec: {containers: [{name: a}]}}";
    let six = ["--mode", "dns", "--cluster-dns", "fd96::a", "-n", "x"];
    let text = stdout(&inject(&six, pod));
    assert!(
        text.contains("    nameservers:\n      - \"::1\"\n"),
        "{text}"
    );
}

#[test]
fn istio_leaves_the_prefixes_of_the_tunnel_alone() {
    let text = stdout(&inject(&[], &manifest("statefulset.yaml")));
    let ranges = "excludeOutboundIPRanges: \"10.88.0.1/32,10.240.16.0/20\"\n";
    assert!(text.contains(ranges), "{text}");
    let text = stdout(&inject(&[], &manifest("shared.yaml")));
    let merged = "\"192.0.2.0/24,10.88.0.1/32,10.240.16.0/20,fd88::/64\"\n";
    assert!(text.contains(merged), "{text}");
    assert_eq!(text.matches(merged).count(), 1, "only one pod has Istio");
    let pod = "{apiVersion: v1, kind: Pod, metadata: {name: a, labels: \
         {sidecar.istio.io/inject: 'true'}}, spec: {containers: [{name: a}]}}";
    let warning = stderr(&inject(&[], pod));
    assert!(
        warning.contains("give the ConfigMap with allowedIPs too"),
        "{warning}"
    );
}

#[test]
fn what_has_no_pod_is_passed_on() {
    let text = "# a comment\na: \"yes\" # another\nkind: Service\n---\n# nothing\n---\nkind: [x]\n";
    let output = inject(&[], text);
    assert_eq!(
        stdout(&output),
        "a: \"yes\"\nkind: Service\n---\nkind:\n  - x\n"
    );
    assert!(
        stderr(&output).starts_with("warning: nothing was changed"),
        "{output:?}"
    );
}

#[test]
fn files_are_read_together() {
    let folder = Folder::new("inject");
    let (namespace, pod) = (folder.path().join("a.yaml"), folder.path().join("b.yaml"));
    let labels = "labels: {pod-security.kubernetes.io/enforce: baseline}";
    let text = format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: logs, {labels}}}\n");
    std::fs::write(&namespace, text).expect("a file can be written");
    let text = "apiVersion: v1\nkind: Pod\nmetadata: {name: a, namespace: logs}\nspec: {}\n";
    std::fs::write(&pod, text).expect("a file can be written");
    let files = [
        namespace.to_str().expect("UTF-8"),
        pod.to_str().expect("UTF-8"),
    ];
    let output = inject(&files, "");
    assert_eq!((output.status.code(), &*stdout(&output)), (Some(1), ""));
    let place = format!("{}: document 1: Pod a: metadata.namespace: ", files[1]);
    assert!(stderr(&output).contains(&place), "{output:?}");
}

/// A workload, what `inject` is told, and what it says.
struct Refusal {
    kind: &'static str,
    spec: &'static str,
    arguments: &'static [&'static str],
    said: &'static str,
}

const fn refusal(
    kind: &'static str,
    spec: &'static str,
    arguments: &'static [&'static str],
    said: &'static str,
) -> Refusal {
    Refusal {
        kind,
        spec,
        arguments,
        said,
    }
}

const POD: &str = "template: {spec: {containers: [{name: a}]}}";
const NODE: &[&str] = &["--identity", "node"];

const REFUSALS: &[Refusal] = &[
    refusal(
        "apps/v1 DaemonSet",
        POD,
        &[],
        "kind: a DaemonSet runs a pod on each node, and a key belongs to one running instance; with a key and addresses for each, give the ConfigMap too, or --identity",
    ),
    refusal(
        "apps/v1 DaemonSet",
        "updateStrategy: {rollingUpdate: {maxSurge: 1}}",
        NODE,
        "spec.updateStrategy.rollingUpdate.maxSurge: while a new version is rolled out two pods run on one node, and a key of the node belongs to one of them",
    ),
    refusal(
        "apps/v1 Deployment",
        "replicas: 3",
        &[],
        "spec.replicas: 3 pods run at the same time, and a key",
    ),
    refusal(
        "apps/v1 Deployment",
        "replicas: 1",
        &[],
        "spec.strategy: while a new version is rolled out two pods run at the same time; type Recreate or rollingUpdate.maxSurge 0 would prevent that, and a key",
    ),
    refusal(
        "apps/v1 Deployment",
        "strategy: {rollingUpdate: {maxSurge: 25%}}",
        &[],
        "spec.strategy: while",
    ),
    refusal(
        "apps/v1 StatefulSet",
        "replicas: 2",
        &[],
        "spec.replicas: 2 pods run",
    ),
    refusal(
        "batch/v1 Job",
        "parallelism: 4",
        &[],
        "spec.parallelism: 4 pods run",
    ),
    refusal(
        "batch/v1 CronJob",
        "schedule: x",
        &[],
        "spec.concurrencyPolicy: a job may start while the one before it runs; Forbid or Replace would prevent that, and",
    ),
    refusal(
        "batch/v1 CronJob",
        "jobTemplate: {spec: {parallelism: 2}}",
        &[],
        "spec.jobTemplate.spec.parallelism: 2 pods run",
    ),
    refusal(
        "v1 Pod",
        "hostNetwork: true",
        &[],
        "spec.hostNetwork: the tunnel and its routes would be the node's; run seedwire once on each node instead",
    ),
    refusal(
        "apps/v1 DaemonSet",
        "template: {spec: {hostNetwork: true}}",
        NODE,
        "spec.template.spec.hostNetwork: the tunnel",
    ),
    refusal(
        "v1 Pod",
        "os: {name: windows}",
        &[],
        "spec.os.name: seedwire runs on Linux",
    ),
    refusal(
        "v1 Pod",
        "initContainers: [{name: seedwire}]",
        &[],
        "spec.initContainers: seedwire: is there already, and not by `seedwire inject`",
    ),
    refusal(
        "v1 Pod",
        "volumes: [{name: seedwire-tun}]",
        &[],
        "spec.volumes: seedwire-tun: is there already",
    ),
    refusal(
        "v1 Pod",
        "containers: []",
        &DNS,
        "metadata.namespace: the search domains need it; give --namespace",
    ),
    refusal(
        "apps/v1 StatefulSet",
        "serviceName: a",
        &[],
        "spec.template.spec: expected the spec of a pod",
    ),
];

#[test]
fn each_reason_against_the_sidecar_is_told_with_its_place() {
    for case in REFUSALS {
        let (api, kind) = case.kind.split_once(' ').expect("a version and a kind");
        let text = format!(
            "kind: Service\n---\napiVersion: {api}\nkind: {kind}\nmetadata: {{name: web}}\n\
             spec: {{{}}}\n",
            case.spec
        );
        let output = inject(case.arguments, &text);
        assert_eq!(
            (output.status.code(), &*stdout(&output)),
            (Some(1), ""),
            "{text}"
        );
        let said = format!("standard input: document 2: {kind} web: {}", case.said);
        let found = stderr(&output);
        assert!(
            found.lines().any(|line| line.contains(&said)),
            "{said}\n{found}"
        );
    }
}

#[test]
fn a_namespace_that_forbids_what_it_needs_is_told() {
    for level in ["baseline", "restricted"] {
        let text = manifest("statefulset.yaml")
            .replace("enforce: privileged", &format!("enforce: {level}"));
        let said = stderr(&inject(&[], &text));
        let reason = format!(
            "StatefulSet buffer: metadata.namespace: the namespace logging enforces the pod \
             security level {level}, which forbids NET_ADMIN and hostPath; the sidecar needs the \
             level privileged"
        );
        assert!(said.contains(&reason), "{said}");
    }
}

#[test]
fn what_the_configuration_lacks_is_told() {
    let cases: [(&str, &str, &[&str], &str); 8] = [
        (
            "http: \":9586\"",
            "http: \":9586\"\n      startupWait: never",
            &[],
            "ConfigMap seedwire: control.startupWait has to be less than 90s, when the kubelet gives up and starts the sidecar anew",
        ),
        (
            "http: \":9586\"",
            "http: \":9586\"\n      startupWait: 2m",
            &[],
            "control.startupWait",
        ),
        (
            "http: \":9586\"",
            "http: \"127.0.0.1:9586\"",
            &[],
            "ConfigMap seedwire: control.http has to be \":9586\": the kubelet probes the pod's address",
        ),
        (
            "    control:\n      http: \":9586\"\n",
            "",
            &[],
            "control.http has to be",
        ),
        (
            "keys/${NODE_NAME}",
            "keys/all",
            &[],
            "kind: a DaemonSet runs a pod on each node, and a key belongs to one running instance; in the ConfigMap name the key and the addresses by ${NODE_NAME} or ${POD_NAME}",
        ),
        (
            "127.0.0.1:53",
            "169.254.20.11:53",
            &DNS,
            "dns.listen has to hold 127.0.0.1:53 or [::1]:53 for --mode dns",
        ),
        (
            "${CLUSTER_DNS_1}",
            "192.0.2.1",
            &DNS,
            "dns.upstreams has to hold \"${CLUSTER_DNS_1}\" or 10.96.0.10, which --cluster-dns gives",
        ),
        (
            "  seedwire.yaml: |",
            "  config.yaml: |",
            &[],
            "ConfigMap seedwire: data.seedwire.yaml is missing",
        ),
    ];
    for (good, bad, arguments, said) in cases {
        let text = manifest("daemonset.yaml");
        assert!(text.contains(good), "{good}");
        let output = inject(arguments, &text.replace(good, bad));
        assert_eq!(
            (output.status.code(), &*stdout(&output)),
            (Some(1), ""),
            "{said}"
        );
        assert!(
            stderr(&output).contains(said),
            "{said}\n{}",
            stderr(&output)
        );
    }
}

#[test]
fn all_reasons_are_told_at_once() {
    let text = "apiVersion: apps/v1\nkind: DaemonSet\nmetadata: {name: web}\nspec: {template: \
         {spec: {hostNetwork: true, containers: [{name: seedwire}]}}}\n";
    let said = stderr(&inject(&[], text));
    assert_eq!(said.lines().count(), 4, "{said}");
    assert!(said.ends_with("\nseedwire: failed to inject the sidecar; nothing was written\n"));
}

#[test]
fn text_that_is_no_manifest_is_told_with_its_place() {
    for (text, said) in [
        ("a: [", "standard input:1:4: "),
        (
            "a: 1\na: 2\n",
            "standard input:2:1: expected the key a once",
        ),
        (
            "- a\n",
            "standard input: document 1: expected an object of Kubernetes",
        ),
        ("a: !!binary x\n", "expected a value without a tag"),
        (
            "a: &a {b: 1}\nc: {<<: *a}\n",
            "expected the keys themselves: `<<` is not taken",
        ),
    ] {
        let output = inject(&[], text);
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(
            stderr(&output).contains(said),
            "{said}\n{}",
            stderr(&output)
        );
    }
}

#[test]
fn a_kubernetes_without_native_sidecars_is_refused() {
    for (version, code) in [
        ("1.28", 1),
        ("v1.27.16-eks", 1),
        ("1.29", 0),
        ("v1.35.2", 0),
        ("x", 64),
    ] {
        let output = inject(&["--kubernetes-version", version], "kind: Service\n");
        assert_eq!(output.status.code(), Some(code), "{version}: {output:?}");
    }
    let said = stderr(&inject(&["--kubernetes-version", "1.28"], ""));
    assert!(
        said.contains("Kubernetes 1.28 has no native sidecars"),
        "{said}"
    );
}

#[test]
fn options_that_belong_together_are_asked_for() {
    for arguments in [
        &["--mode", "dns"][..],
        &["--cluster-dns", "10.96.0.10"],
        &["--secret", "No Name"],
        &["--image", ""],
        &["--backend", "kernel"],
    ] {
        let output = inject(arguments, "kind: Service\n");
        assert_eq!(output.status.code(), Some(64), "{arguments:?}: {output:?}");
    }
}

#[test]
fn what_may_go_wrong_is_warned_of() {
    let deployment = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}\nspec: \
         {replicas: 2, template: {spec: {containers: [{name: a}]}}}\n";
    for (by, said) in [
        ("node", "two of its pods on one node would share a key"),
        ("pod", "the names of its pods end at random"),
    ] {
        let output = inject(&["--identity", by], deployment);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        let warning = format!("warning: standard input: document 1: Deployment web: {said}");
        assert!(stderr(&output).starts_with(&warning), "{output:?}");
    }
}
