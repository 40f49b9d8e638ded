//! What of a configuration may be shown.

/// The most characters of a value that are shown.
const SHOWN: usize = 80;
/// A run of base64 characters from this length on may be a key; a whole one has 44.
const KEY_RUN: usize = 40;

/// What stands for a value in messages: `value "..."`, or `value hidden` where it may be secret.
pub(super) fn value(key: &str, text: &str) -> String {
    let is_path = text.starts_with('/') || text.starts_with("${");
    let is_file = key.ends_with("File") && is_path;
    if (is_secret_name(key) && !is_file) || looks_like_key(text) {
        "value hidden".to_owned()
    } else {
        format!("value {}", quoted(text))
    }
}

/// A key's name for messages.
pub(super) fn name(key: &str) -> String {
    if looks_like_key(key) {
        return "(hidden)".to_owned();
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if !key.is_empty() && key.len() <= SHOWN && key.chars().all(plain) {
        key.to_owned()
    } else {
        quoted(key)
    }
}

fn quoted(text: &str) -> String {
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{:?}...", &text[..end]),
        None => format!("{text:?}"),
    }
}

fn is_secret_name(key: &str) -> bool {
    const WORDS: [&str; 8] = [
        "key",
        "secret",
        "passw",
        "token",
        "psk",
        "credential",
        "auth",
        "private",
    ];
    let key = key.to_ascii_lowercase();
    WORDS.iter().any(|word| key.contains(word))
}

/// Whether a part of the text may be a WireGuard key, in base64 or in hex. Paths and names in
/// lower case are not.
pub(super) fn looks_like_key(text: &str) -> bool {
    let is_base64 = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/' | b'=');
    text.as_bytes()
        .split(|b| !is_base64(*b))
        .filter(|run| run.len() >= KEY_RUN)
        .any(|run| {
            let mixed =
                run.iter().any(u8::is_ascii_uppercase) && run.iter().any(u8::is_ascii_lowercase);
            mixed || run.ends_with(b"=") || run.iter().all(u8::is_ascii_hexdigit)
        })
}
