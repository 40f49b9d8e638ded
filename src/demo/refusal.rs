//! Why the demo can't run here, and the way out, in one sentence.

use std::fs;
use std::io;

use nix::errno::Errno;

/// What the demo was doing when it was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Making user, mount, pid or network namespaces.
    Namespaces,
    /// Becoming root in the user namespace.
    Identity,
    /// Opening /dev/net/tun.
    OpenTun,
    /// Using the capabilities that come with a user namespace: mounts, links.
    Capabilities,
}

/// Settings of the kernel that can refuse; `None` where this kernel has no such setting.
#[derive(Clone, Debug, Default)]
struct Settings {
    apparmor: Option<u64>,
    clone: Option<u64>,
    limits: Vec<(&'static str, u64)>,
}

impl Settings {
    fn read() -> Self {
        let read = |name: &str| {
            let text = fs::read_to_string(format!("/proc/sys/{name}")).ok()?;
            text.trim().parse().ok()
        };
        Self {
            apparmor: read("kernel/apparmor_restrict_unprivileged_userns"),
            clone: read("kernel/unprivileged_userns_clone"),
            limits: [
                "user.max_user_namespaces",
                "user.max_mnt_namespaces",
                "user.max_pid_namespaces",
                "user.max_net_namespaces",
            ]
            .into_iter()
            .filter_map(|name| Some((name, read(&name.replace('.', "/"))?)))
            .collect(),
        }
    }
}

/// The demo can't run on this machine as it is set up.
#[derive(Debug, thiserror::Error)]
#[error("the demo can't run here: {0}")]
pub(super) struct Refusal(String);

/// Names the cause of a refusal and the way out.
pub(super) fn of(step: Step, errno: Errno) -> Refusal {
    Refusal(explain(step, errno, &Settings::read()))
}

/// What this error number means inside the namespaces, if it is that they came without their
/// capabilities.
pub(super) fn if_forbidden(errno: Option<i32>) -> Option<Refusal> {
    matches!(errno, Some(libc::EPERM | libc::EACCES)).then(|| of(Step::Capabilities, Errno::EPERM))
}

/// The number of an error that a system call gave.
pub(super) fn errno(error: &io::Error) -> Errno {
    Errno::from_raw(error.raw_os_error().unwrap_or_default())
}

fn explain(step: Step, errno: Errno, settings: &Settings) -> String {
    match step {
        Step::OpenTun => explain_tun(errno),
        Step::Namespaces | Step::Identity | Step::Capabilities => {
            explain_namespaces(step, errno, settings)
        }
    }
}

fn explain_tun(errno: Errno) -> String {
    match errno {
        Errno::ENOENT | Errno::ENODEV | Errno::ENXIO => {
            "/dev/net/tun is missing; `sudo modprobe tun` brings it (in a container: start it \
             with `--device /dev/net/tun`)"
                .to_owned()
        }
        Errno::EACCES => {
            "/dev/net/tun can't be opened by this user; `sudo chmod 0666 /dev/net/tun` allows it, \
             as it is on most distributions"
                .to_owned()
        }
        Errno::EPERM => "/dev/net/tun is forbidden here; in a container, start it with \
             `--device /dev/net/tun`"
            .to_owned(),
        other => format!("/dev/net/tun can't be opened: {}", other.desc()),
    }
}

fn explain_namespaces(step: Step, errno: Errno, settings: &Settings) -> String {
    if let Some((name, _)) = settings.limits.iter().find(|(_, limit)| *limit == 0) {
        return format!("{name} is 0; `sudo sysctl {name}=10000` allows it");
    }
    if settings.clone == Some(0) {
        return "kernel.unprivileged_userns_clone is 0; `sudo sysctl \
                kernel.unprivileged_userns_clone=1` allows it"
            .to_owned();
    }
    if settings.apparmor == Some(1) {
        return "kernel.apparmor_restrict_unprivileged_userns is 1, so namespaces of ordinary \
                users get no capabilities; `sudo sysctl \
                kernel.apparmor_restrict_unprivileged_userns=0` allows it, and so does running \
                the demo with sudo"
            .to_owned();
    }
    match (step, errno) {
        (Step::Capabilities, Errno::ENOSPC) => "user.max_net_namespaces allows no more; `sudo \
             sysctl user.max_net_namespaces=10000` raises it"
            .to_owned(),
        (_, Errno::ENOSPC | Errno::EUSERS) => {
            "there are as many user namespaces, or as deep in each other, as user.max_*_namespaces \
             and the kernel allow; `sudo sysctl user.max_user_namespaces=10000` raises it"
                .to_owned()
        }
        (Step::Namespaces, Errno::EINVAL | Errno::ENOSYS) => {
            "this kernel has no user namespaces; it takes one built with CONFIG_USER_NS".to_owned()
        }
        (_, Errno::EPERM | Errno::EACCES) => {
            "namespaces of ordinary users are forbidden, as the default seccomp profile of a \
             container does; run it outside of the container, or start that with \
             `--security-opt seccomp=unconfined --security-opt apparmor=unconfined`"
                .to_owned()
        }
        (_, other) => format!("namespaces can't be made: {}", other.desc()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_setting_that_refuses_is_named_with_the_command_that_changes_it() {
        let cases = [
            (
                Settings {
                    apparmor: Some(1),
                    ..Settings::default()
                },
                "sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0",
            ),
            (
                Settings {
                    clone: Some(0),
                    ..Settings::default()
                },
                "sudo sysctl kernel.unprivileged_userns_clone=1",
            ),
            (
                Settings {
                    apparmor: Some(1),
                    limits: vec![
                        ("user.max_user_namespaces", 5),
                        ("user.max_net_namespaces", 0),
                    ],
                    ..Settings::default()
                },
                "sudo sysctl user.max_net_namespaces=",
            ),
            (Settings::default(), "seccomp=unconfined"),
        ];
        for (settings, way_out) in cases {
            for step in [Step::Namespaces, Step::Identity, Step::Capabilities] {
                let text = explain(step, Errno::EPERM, &settings);
                assert!(text.contains(way_out), "{step:?}: {text}");
                assert!(!text.contains('\n') && !text.contains("  "), "{text}");
            }
        }
    }

    #[test]
    fn a_tun_device_that_is_missing_is_not_taken_for_one_that_is_forbidden() {
        let allowing = Settings::default();
        let of = |errno| explain(Step::OpenTun, errno, &allowing);
        assert!(of(Errno::ENOENT).contains("modprobe tun"));
        assert!(of(Errno::EACCES).contains("chmod 0666 /dev/net/tun"));
        assert!(of(Errno::EPERM).contains("--device /dev/net/tun"));
    }
}
