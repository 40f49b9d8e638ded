//! Every file in config/ through the front door, with the files it names in a folder of the test.

use std::path::Path;

use crate::run::{Folder, output, seedwire, stderr, stdout};

const KEY: &str = "yAnz5TF+lXXJte14tji3zlMNq+hd2rYUIgJBgB3fBmk=\n";

#[test]
fn check_takes_each_example() {
    let folder = Folder::new("examples");
    let files = ["private.key", "psk", "keys/n1", "psks/n1", "psks/edge-7"];
    for file in files {
        folder.write(file, KEY, 0o400);
    }
    folder.write("addresses/n1", "10.88.0.2/32\n", 0o644);
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("config");
    let mut count = 0;
    for entry in std::fs::read_dir(examples).expect("the examples can be listed") {
        let path = entry.expect("the examples can be listed").path();
        if path.extension().is_none_or(|extension| extension != "yaml") {
            continue;
        }
        let text = std::fs::read_to_string(&path).expect("an example can be read");
        let place = folder.path().to_str().expect("the path is UTF-8");
        let text = text
            .replace("/etc/seedwire/psk/", "/etc/seedwire/psks/")
            .replace("/etc/seedwire", place);
        let copy = folder.write("example.yaml", &text, 0o644);
        let output = output(
            seedwire()
                .env("NODE_NAME", "n1")
                .args(["check", "-c", &copy]),
            b"",
        );
        assert_eq!(stderr(&output), "", "{}", path.display());
        assert_eq!(stdout(&output), format!("{copy}: good\n"));
        assert_eq!(output.status.code(), Some(0));
        count += 1;
    }
    assert_eq!(count, 5, "one for each placement");
}
