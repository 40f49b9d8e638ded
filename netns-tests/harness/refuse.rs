//! A kernel that refuses some system calls, for one program: what an old one does, and some
//! sandboxes.
#![allow(unsafe_code)] // A filter has to be set between fork and exec.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// A system call that fails when its arguments have these values.
#[derive(Clone, Copy)]
pub struct Refusal {
    /// Its number (`libc::SYS_*`).
    pub call: libc::c_long,
    /// Each argument by its place, from 0, with the low 32 bits that it has.
    pub arguments: &'static [(u32, u32)],
    /// What it fails with.
    pub errno: i32,
}

/// The TUN link takes and gives only plain packets (TUNSETOFFLOAD in linux/if_tun.h).
pub const NO_TUN_OFFLOAD: Refusal = Refusal {
    call: libc::SYS_ioctl,
    arguments: &[(1, 0x4004_54d0)],
    errno: libc::EINVAL,
};

/// No UDP socket sends many datagrams in one call.
pub const NO_UDP_SEGMENT: Refusal = Refusal {
    call: libc::SYS_setsockopt,
    arguments: &[(1, libc::IPPROTO_UDP as u32), (2, libc::UDP_SEGMENT as u32)],
    errno: libc::ENOPROTOOPT,
};

/// No UDP socket receives many datagrams in one call.
pub const NO_UDP_GRO: Refusal = Refusal {
    call: libc::SYS_setsockopt,
    arguments: &[(1, libc::IPPROTO_UDP as u32), (2, libc::UDP_GRO as u32)],
    errno: libc::ENOPROTOOPT,
};

/// Makes these calls fail for the program, once it is started, and for those that it starts.
pub fn refuse(command: &mut Command, refusals: &[Refusal]) {
    if refusals.is_empty() {
        return;
    }
    let mut program: Vec<libc::sock_filter> = refusals.iter().flat_map(instructions).collect();
    program.push(statement(libc::BPF_RET, libc::SECCOMP_RET_ALLOW));
    let set = move || {
        let filter = libc::sock_fprog {
            len: program.len() as u16,
            filter: program.as_ptr().cast_mut(),
        };
        // SAFETY: prctl takes these arguments by value.
        let quiet = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
        let mode = libc::SECCOMP_MODE_FILTER;
        // SAFETY: the filter and its instructions outlive the call, which copies them.
        if quiet == -1 || unsafe { libc::prctl(libc::PR_SET_SECCOMP, mode, &filter) } == -1 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    };
    // SAFETY: it only makes two system calls, and reads memory that was made before the fork.
    unsafe { command.pre_exec(set) };
}

/// Falls through where the call is another one.
fn instructions(refusal: &Refusal) -> Vec<libc::sock_filter> {
    // The offsets of seccomp_data in linux/seccomp.h; the low half of an argument, little-endian.
    let number = (0, refusal.call as u32);
    let arguments = refusal.arguments.iter();
    let arguments = arguments.map(|(place, value)| (16 + 8 * place, *value));
    let tests: Vec<_> = std::iter::once(number).chain(arguments).collect();
    let mut all = Vec::new();
    for (at, (offset, value)) in tests.iter().enumerate() {
        let rest = 2 * (tests.len() - at - 1) + 1;
        all.push(statement(
            libc::BPF_LD | libc::BPF_W | libc::BPF_ABS,
            *offset,
        ));
        all.push(libc::sock_filter {
            code: (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16,
            jt: 0,
            jf: rest as u8,
            k: *value,
        });
    }
    let failed = libc::SECCOMP_RET_ERRNO | refusal.errno as u32;
    all.push(statement(libc::BPF_RET, failed));
    all
}

fn statement(code: u32, value: u32) -> libc::sock_filter {
    libc::sock_filter {
        code: code as u16,
        jt: 0,
        jf: 0,
        k: value,
    }
}
