//! A wall clock that is another than the machine's, for one program.

use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use super::Host;

const SOURCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/netns-tests/harness/clock.c");

/// The wall clock of the programs that are started with its environment.
pub struct Clock {
    library: PathBuf,
    file: PathBuf,
}

impl Clock {
    /// A clock that goes right.
    pub fn new(host: &Host) -> Self {
        let folder = host.folder("clock");
        let clock = Self {
            library: folder.join("clock.so"),
            file: folder.join("moved"),
        };
        clock.set(0);
        let library = clock.library.display().to_string();
        host.run_args(&["cc", "-shared", "-fPIC", "-O1", "-o", &library, SOURCE]);
        clock
    }

    /// Sets it to this many seconds after the machine's clock.
    pub fn set(&self, seconds: i64) {
        let mut options = std::fs::File::options();
        // In place: the programs have it mapped.
        let file = options.create(true).truncate(false).write(true);
        let written = file
            .open(&self.file)
            .and_then(|file| file.write_all_at(&seconds.to_ne_bytes(), 0));
        written.expect("a file in memory");
    }

    /// What a program needs in its environment to go by this clock.
    pub fn environment(&self) -> [(&str, &str); 2] {
        [
            ("LD_PRELOAD", self.library.to_str().expect("UTF-8")),
            ("SEEDWIRE_TEST_CLOCK", self.file.to_str().expect("UTF-8")),
        ]
    }
}
