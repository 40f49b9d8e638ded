//! epoll(7) with tokens that say whose event it is.

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

/// Whose event it is; the number is the place in that one's list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Token {
    Commands,
    Udp(u32),
    Accept(u32),
    Lane(u32),
    Client(u32),
    Upstream(u32),
}

impl Token {
    fn pack(self) -> u64 {
        let (kind, index) = match self {
            Self::Commands => (0, 0),
            Self::Udp(index) => (1, index),
            Self::Accept(index) => (2, index),
            Self::Lane(index) => (3, index),
            Self::Client(index) => (4, index),
            Self::Upstream(index) => (5, index),
        };
        kind << 32 | u64::from(index)
    }

    fn unpack(packed: u64) -> Self {
        let index = packed as u32;
        match packed >> 32 {
            1 => Self::Udp(index),
            2 => Self::Accept(index),
            3 => Self::Lane(index),
            4 => Self::Client(index),
            5 => Self::Upstream(index),
            _ => Self::Commands,
        }
    }
}

/// What is waited for.
pub(super) struct Poll(Epoll);

impl Poll {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self(Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?))
    }

    pub(super) fn add<F: AsFd>(&self, fd: F, token: Token, write: bool) -> io::Result<()> {
        let event = EpollEvent::new(interest(true, write), token.pack());
        Ok(self.0.add(fd, event)?)
    }

    pub(super) fn change<F: AsFd>(
        &self,
        fd: F,
        token: Token,
        read: bool,
        write: bool,
    ) -> io::Result<()> {
        let mut event = EpollEvent::new(interest(read, write), token.pack());
        Ok(self.0.modify(fd, &mut event)?)
    }

    /// Waits for events; an interrupted wait has none.
    pub(super) fn wait(
        &self,
        timeout: Option<Duration>,
        tokens: &mut Vec<Token>,
    ) -> io::Result<()> {
        let mut events = [EpollEvent::empty(); 64];
        // Rounded up, or the last millisecond would be spent in a busy loop.
        let timeout = timeout.map_or(EpollTimeout::NONE, |timeout| {
            let millis = timeout.as_micros().div_ceil(1000);
            EpollTimeout::try_from(millis.min(60_000) as i32).unwrap_or(EpollTimeout::ZERO)
        });
        tokens.clear();
        match self.0.wait(&mut events, timeout) {
            Ok(count) => {
                tokens.extend(
                    events[..count]
                        .iter()
                        .map(|event| Token::unpack(event.data())),
                );
                Ok(())
            }
            Err(nix::errno::Errno::EINTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

fn interest(read: bool, write: bool) -> EpollFlags {
    let mut flags = EpollFlags::empty();
    flags.set(EpollFlags::EPOLLIN, read);
    flags.set(EpollFlags::EPOLLOUT, write);
    flags
}
