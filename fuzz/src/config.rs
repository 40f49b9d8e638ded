//! The configuration: whatever the text is, it is taken, or refused with the places that are wrong
//! and without what is secret.

use std::path::Path;

use seedwire_core::config::{FileAccess, FileContent, Problem, Surroundings, Unreadable, parse};
use zeroize::Zeroizing;

const KEY: &str = "yAnz5TF+lXXJte14tji3zlMNq+hd2rYUIgJBgB3fBmk=";
const FILE: &str = "seedwire.yaml";

/// Variables and files by their first letter.
struct World;

impl Surroundings for World {
    fn variable(&self, name: &str) -> Option<Zeroizing<String>> {
        let value = match name.as_bytes().first()? {
            b'K' => KEY,
            b'N' => "node-1",
            b'P' => "3100",
            _ => return None,
        };
        Some(Zeroizing::new(value.to_owned()))
    }

    fn read(&self, path: &Path) -> Result<FileContent, Unreadable> {
        let mut access = FileAccess {
            uid: 0,
            gid: 0,
            mode: 0o600,
        };
        let name = path.file_name().and_then(|name| name.to_str());
        let content: &[u8] = match name.and_then(|name| name.bytes().next()) {
            Some(b'k') => KEY.as_bytes(),
            Some(b'o') => {
                access.mode = 0o644;
                KEY.as_bytes()
            }
            Some(b'a') => b"10.88.0.2/32\nfd88::2/128\n",
            Some(b'b') => b"\xff\xfe",
            _ => {
                return Err(Unreadable {
                    cause: "No such file or directory".to_owned(),
                    our_uid: 0,
                    our_gid: 0,
                    access: None,
                });
            }
        };
        Ok(FileContent {
            content: Zeroizing::new(content.to_vec()),
            access,
        })
    }
}

/// The text of a configuration.
pub fn config(data: &[u8]) {
    match parse(data, FILE, &World) {
        Ok(parsed) => {
            let warnings: Vec<_> = parsed.warnings.iter().map(|w| &w.problem).collect();
            in_order(data, &warnings);
        }
        Err(rejected) => {
            assert!(!rejected.problems.is_empty());
            in_order(data, &rejected.problems.iter().collect::<Vec<_>>());
        }
    }
}

/// Each names a place in the text and says what was expected, and nothing that is secret.
fn in_order(text: &[u8], problems: &[&Problem]) {
    assert!(problems.is_sorted_by_key(|problem| problem.at));
    let text = String::from_utf8_lossy(text);
    let lines: Vec<_> = text.split('\n').collect();
    for problem in problems {
        let said = problem.to_string();
        assert!(said.starts_with(&format!("{FILE}:")), "{said}");
        assert!(!problem.expected.is_empty(), "{said}");
        assert!(!said.contains(['\n', '\r', '\x1b']), "{said:?}");
        assert!(!said.contains(&KEY[..43]), "{said}");
        assert!(problem.at.column >= 1 && problem.at.line >= 1, "{said}");
        // The YAML parser knows more ends of lines than \n.
        let breaks = text.matches(['\r', '\n']).count() + 1;
        assert!(problem.at.line <= breaks + 1, "{said}");
        if let Some(line) = lines
            .get(problem.at.line - 1)
            .filter(|_| !text.contains('\r'))
        {
            assert!(problem.at.column <= line.chars().count() + 1, "{said}");
        }
    }
}
