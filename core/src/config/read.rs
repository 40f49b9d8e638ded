//! The walk over the tree: every value is read, and every error is kept.

use std::collections::HashMap;
use std::path::PathBuf;

use zeroize::Zeroizing;

use super::hide;
use super::report::{Position, Problem, Topic, Warning};
use super::surroundings::Surroundings;
use super::yaml::{Entry, Node, Value};

/// Where a value stands and what of it may be shown.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) at: Position,
    pub(super) path: String,
    pub(super) found: String,
}

impl Place {
    /// The whole file, which starts there.
    pub(super) fn of_file(at: Position) -> Self {
        Self {
            at,
            path: String::new(),
            found: String::new(),
        }
    }
}

/// A value as written, and where.
#[derive(Debug)]
pub(super) struct At<T> {
    pub(super) value: T,
    pub(super) place: Place,
}

/// What can be read from a node; `None` once the reader was told what is wrong with it.
pub(super) trait Written: Sized {
    fn read(node: &Node, place: &Place, reader: &mut Reader<'_>) -> Option<Self>;
}

/// What can be read from text; the error says what is expected.
pub(super) trait Leaf: Sized {
    fn parse(text: &str) -> Result<Self, String>;
}

impl<T: Leaf> Written for T {
    fn read(node: &Node, place: &Place, reader: &mut Reader<'_>) -> Option<Self> {
        // The text of anything but a scalar is never valid, so its error says what is.
        let text = match &node.value {
            Value::Scalar(raw) => reader.expand(raw, place)?,
            _ => Zeroizing::default(),
        };
        T::parse(&text)
            .map_err(|expected| reader.reject(place, expected))
            .ok()
    }
}

impl<T: Written> Written for Vec<At<T>> {
    fn read(node: &Node, place: &Place, reader: &mut Reader<'_>) -> Option<Self> {
        let Value::Sequence(items) = &node.value else {
            reader.reject(place, "a list");
            return None;
        };
        let key = place.path.rsplit('.').next().unwrap_or_default();
        let mut list = Vec::with_capacity(items.len());
        for (index, item) in items.iter().enumerate() {
            let place = Place {
                at: item.at,
                path: format!("{}[{index}]", place.path),
                found: found(key, item),
            };
            if let Some(value) = T::read(item, &place, reader) {
                list.push(At { value, place });
            }
        }
        Some(list)
    }
}

/// A value, or a list of them.
pub(super) struct OneOrMore<T>(pub(super) Vec<At<T>>);

impl<T: Written> Written for OneOrMore<T> {
    fn read(node: &Node, place: &Place, reader: &mut Reader<'_>) -> Option<Self> {
        if let Value::Sequence(items) = &node.value {
            if items.is_empty() {
                reader.reject(place, "at least one in the list");
            }
            return Vec::read(node, place, reader).map(Self);
        }
        let value = T::read(node, place, reader)?;
        let place = place.clone();
        Some(Self(vec![At { value, place }]))
    }
}

/// What goes on while a configuration is read.
pub(super) struct Reader<'a> {
    pub(super) surroundings: &'a dyn Surroundings,
    pub(super) file: &'a str,
    pub(super) errors: Vec<Problem>,
    pub(super) warnings: Vec<Warning>,
    /// The files that the configuration names.
    pub(super) files: Vec<PathBuf>,
    /// The values that name a secret's file which others may read, and what is wrong.
    pub(super) readable: Vec<(Place, String)>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(surroundings: &'a dyn Surroundings, file: &'a str) -> Self {
        Self {
            surroundings,
            file,
            errors: Vec::new(),
            warnings: Vec::new(),
            files: Vec::new(),
            readable: Vec::new(),
        }
    }
}

impl Reader<'_> {
    /// Keeps the error that something else than what stands at `place` was expected.
    pub(super) fn reject(&mut self, place: &Place, expected: impl AsRef<str>) {
        let problem = self.problem(place, format!("expected {}", expected.as_ref()));
        self.errors.push(problem);
    }

    pub(super) fn warn(&mut self, topic: Topic, place: &Place, text: impl Into<String>) {
        let problem = self.problem(place, text.into());
        self.warnings.push(Warning { topic, problem });
    }

    pub(super) fn problem(&self, place: &Place, expected: String) -> Problem {
        Problem {
            file: self.file.to_owned(),
            at: place.at,
            path: place.path.clone(),
            found: place.found.clone(),
            expected,
        }
    }

    /// The entries of a section by their key, all of them known and each there once.
    pub(super) fn entries<'n>(
        &mut self,
        node: &'n Node,
        place: &Place,
        known: &[&str],
    ) -> Option<HashMap<&'n str, (&'n Node, Place)>> {
        let entries = match &node.value {
            Value::Mapping(entries) => entries.as_slice(),
            Value::Null => &[],
            _ => {
                self.reject(place, format!("a mapping of {}", known.join(", ")));
                return None;
            }
        };
        let mut by_key = HashMap::new();
        for Entry { key, at, value } in entries {
            let mut place = Place {
                at: value.at,
                path: join(&place.path, &hide::name(key)),
                found: found(key, value),
            };
            if !known.contains(&key.as_str()) {
                place.at = *at;
                place.found = "unknown key".to_owned();
                self.reject(&place, nearest(key, known));
            } else if by_key.contains_key(key.as_str()) {
                place.at = *at;
                place.found = "repeated key".to_owned();
                self.reject(&place, "each key once");
            } else {
                by_key.insert(key.as_str(), (value, place));
            }
        }
        Some(by_key)
    }

    /// Reads the value of one key, where it is there.
    pub(super) fn field<T: Written>(
        &mut self,
        entries: &mut HashMap<&str, (&Node, Place)>,
        key: &str,
    ) -> Option<At<T>> {
        let (node, place) = entries.remove(key)?;
        let value = T::read(node, &place, self)?;
        Some(At { value, place })
    }

    /// Keeps the error that a key of a section is missing.
    pub(super) fn missing(&mut self, section: &Place, key: &str, expected: &str) {
        let place = Place {
            at: section.at,
            path: join(&section.path, key),
            found: "missing".to_owned(),
        };
        self.reject(&place, expected);
    }

    /// The text with every `${NAME}` replaced by the value of that environment variable.
    pub(super) fn expand(&mut self, raw: &str, place: &Place) -> Option<Zeroizing<String>> {
        let mut text = Zeroizing::new(String::with_capacity(raw.len()));
        let mut rest = raw;
        while let Some((before, reference)) = rest.split_once("${") {
            text.push_str(before);
            let Some((name, after)) = reference.split_once('}').filter(|(n, _)| is_variable(n))
            else {
                self.reject(
                    place,
                    "a reference ${NAME} whose name is of letters, digits and _",
                );
                return None;
            };
            text.push_str(&self.variable(name, place)?);
            rest = after;
        }
        text.push_str(rest);
        Some(text)
    }

    /// The value of an environment variable that must be set.
    pub(super) fn variable(&mut self, name: &str, place: &Place) -> Option<Zeroizing<String>> {
        let value = self.surroundings.variable(name);
        if value.is_none() {
            let name = hide::name(name);
            self.reject(
                place,
                format!("the environment variable {name} to be set, in UTF-8"),
            );
        }
        value
    }
}

/// Whether this can be the name of an environment variable (POSIX.1-2017, 8.1).
pub(super) fn is_variable(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes
        .next()
        .is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
        && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

fn found(key: &str, node: &Node) -> String {
    match &node.value {
        Value::Null => "no value".to_owned(),
        Value::Scalar(raw) => hide::value(key, raw),
        Value::Sequence(_) => "a list".to_owned(),
        Value::Mapping(_) => "a mapping".to_owned(),
    }
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() {
        key.to_owned()
    } else {
        format!("{path}.{key}")
    }
}

/// The known key that a misspelt one most likely stands for; all of them when none is near.
fn nearest(key: &str, known: &[&str]) -> String {
    /// Beyond this length nobody meant a key, and the distance costs its square.
    const LONGEST: usize = 64;
    let distance =
        |name: &str| strsim::osa_distance(&key.to_ascii_lowercase(), &name.to_ascii_lowercase());
    let near = known
        .iter()
        .filter(|_| key.len() <= LONGEST)
        .map(|name| (distance(name), name))
        .filter(|(distance, name)| *distance <= name.len() / 3)
        .min();
    match near {
        Some((_, name)) => (*name).to_owned(),
        None => format!("one of {}", known.join(", ")),
    }
}

/// Defines sections of the configuration as written. One list of keys makes the type, the walk
/// that reads it and, in tests, the JSON Schema.
macro_rules! sections {
    ($(
        $(#[doc = $about:literal])*
        $name:ident {
            $(
                $(#[doc = $doc:literal])*
                $key:literal $field:ident: $type:ty $(, $required:ident $expected:literal)?;
            )*
        }
    )*) => {$(
        $(#[doc = $about])*
        #[cfg_attr(test, derive(schemars::JsonSchema), schemars(deny_unknown_fields))]
        pub(super) struct $name {
            $(
                $(#[doc = $doc])*
                #[cfg_attr(test, schemars(rename = $key $(, $required)?))]
                pub(super) $field: Option<At<$type>>,
            )*
        }

        impl Written for $name {
            fn read(node: &Node, place: &Place, reader: &mut Reader<'_>) -> Option<Self> {
                let mut entries = reader.entries(node, place, &[$($key),*])?;
                $($(
                    if !entries.contains_key($key) {
                        reader.missing(place, $key, $expected);
                    }
                )?)*
                Some(Self { $($field: reader.field(&mut entries, $key),)* })
            }
        }
    )*};
}
pub(super) use sections;
