//! Writes a tree as YAML, always in the same form.

use std::fmt::Write;

use super::tree::{Map, Value};

/// A document: a mapping, in block style.
pub(super) fn document(map: &Map) -> String {
    let mut out = String::new();
    if map.0.is_empty() {
        out.push_str("{}\n");
    }
    entries(&mut out, map, 0, false);
    out
}

/// Whether a reader of YAML 1.1 or 1.2 takes this for a string when it stands without quotes.
pub(super) fn surely_text(text: &str) -> bool {
    let bytes = text.as_bytes();
    let starts = |b: &u8| b.is_ascii_alphabetic() || *b == b'/';
    let holds = |b: &u8| b.is_ascii_alphanumeric() || b" ./_@+=,:-$%()*;<>".contains(b);
    bytes.first().is_some_and(starts)
        && bytes.iter().all(holds)
        && !text.ends_with([' ', ':'])
        && !text.contains(": ")
        && !WORDS.contains(&&*text.to_ascii_lowercase())
}

/// What YAML 1.1 or 1.2 takes for a boolean or null.
const WORDS: &[&str] = &["y", "n", "yes", "no", "on", "off", "true", "false", "null"];

/// `inline`: the first entry continues the line of a list's dash.
fn entries(out: &mut String, map: &Map, indent: usize, inline: bool) {
    for (i, (key, value)) in map.0.iter().enumerate() {
        if i > 0 || !inline {
            pad(out, indent);
        }
        if key.plain {
            out.push_str(&key.text);
        } else {
            quoted(out, &key.text);
        }
        out.push(':');
        match value {
            Value::Map(map) if !map.0.is_empty() => {
                out.push('\n');
                entries(out, map, indent + 2, false);
            }
            Value::List(list) if !list.is_empty() => {
                out.push('\n');
                items(out, list, indent + 2, false);
            }
            value => {
                out.push(' ');
                leaf(out, value, indent);
            }
        }
    }
}

fn items(out: &mut String, list: &[Value], indent: usize, inline: bool) {
    for (i, value) in list.iter().enumerate() {
        if i > 0 || !inline {
            pad(out, indent);
        }
        out.push_str("- ");
        match value {
            Value::Map(map) if !map.0.is_empty() => entries(out, map, indent + 2, true),
            Value::List(list) if !list.is_empty() => items(out, list, indent + 2, true),
            value => leaf(out, value, indent),
        }
    }
}

/// A scalar or an empty collection, with the end of its line.
fn leaf(out: &mut String, value: &Value, indent: usize) {
    match value {
        Value::Plain(text) => out.push_str(text),
        Value::List(_) => out.push_str("[]"),
        Value::Map(_) => out.push_str("{}"),
        Value::Text(text) if surely_text(text) => out.push_str(text),
        Value::Text(text) if fits_block(text) => return block(out, text, indent + 2),
        Value::Text(text) => quoted(out, text),
    }
    out.push('\n');
}

/// Whether the text can stand as a literal block that needs no indentation indicator.
fn fits_block(text: &str) -> bool {
    let content = text.trim_end_matches('\n');
    text.contains('\n')
        && !content.is_empty()
        && !text.starts_with([' ', '\t', '\n'])
        && !content.ends_with([' ', '\t'])
        && !text.chars().any(|c| c != '\n' && c != '\t' && special(c))
}

fn block(out: &mut String, text: &str, indent: usize) {
    let content = text.trim_end_matches('\n');
    let ends = text.len() - content.len();
    out.push_str(["|-\n", "|\n", "|+\n"][ends.min(2)]);
    for line in content.split('\n') {
        if !line.is_empty() {
            pad(out, indent);
            out.push_str(line);
        }
        out.push('\n');
    }
    for _ in 1..ends {
        out.push('\n');
    }
}

fn quoted(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            c if special(c) => {
                write!(out, "\\u{:04X}", u32::from(c)).expect("a String takes all that is written");
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

/// Control characters, and what some readers take for the end of a line or of nothing; all of
/// them are within the first plane of Unicode.
fn special(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{2028}' | '\u{2029}' | '\u{FEFF}' | '\u{FFFE}' | '\u{FFFF}'
        )
}

fn pad(out: &mut String, indent: usize) {
    out.extend(std::iter::repeat_n(' ', indent));
}
