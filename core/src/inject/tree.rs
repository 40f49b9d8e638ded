//! Any YAML as a tree that keeps the order of keys and what kind of scalar each one is.

use std::collections::HashMap;

use granit_parser::{Event, Parser, ScalarStyle, StrInput, options};

use super::emit::surely_text;

/// How deep collections may lie in each other; the deepest objects are CustomResourceDefinitions.
const NESTING_LIMIT: usize = 100;
/// How many nodes aliases may make in one document.
const ALIASED_NODES: usize = 100_000;

/// A node of YAML.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value {
    /// A number, a boolean, null or whatever else was written without quotes, as written.
    Plain(String),
    /// A string.
    Text(String),
    List(Vec<Value>),
    Map(Map),
}

impl Value {
    pub(super) fn null() -> Self {
        Self::Plain("null".to_owned())
    }

    pub(super) fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    /// The text of a scalar.
    pub(super) fn scalar(&self) -> Option<&str> {
        match self {
            Self::Plain(text) | Self::Text(text) => Some(text),
            Self::List(_) | Self::Map(_) => None,
        }
    }

    pub(super) fn as_map(&self) -> Option<&Map> {
        match self {
            Self::Map(map) => Some(map),
            _ => None,
        }
    }

    pub(super) fn as_list(&self) -> Option<&[Value]> {
        match self {
            Self::List(list) => Some(list),
            _ => None,
        }
    }

    /// Whether this is null, `{}` or `[]`, which Kubernetes takes for absent.
    pub(super) fn is_empty(&self) -> bool {
        match self {
            Self::Plain(text) => matches!(&**text, "null" | "~" | "Null" | "NULL"),
            Self::Text(_) => false,
            Self::List(list) => list.is_empty(),
            Self::Map(map) => map.0.is_empty(),
        }
    }

    fn nodes(&self) -> usize {
        match self {
            Self::Plain(_) | Self::Text(_) => 1,
            Self::List(list) => 1 + list.iter().map(Self::nodes).sum::<usize>(),
            Self::Map(map) => 1 + map.0.iter().map(|(_, v)| v.nodes()).sum::<usize>(),
        }
    }
}

/// Keys with their values, in the order as written; no key repeats.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Map(pub(super) Vec<(Key, Value)>);

/// A key; one without quotes stays so, because `on` and `"on"` are different keys in YAML 1.1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Key {
    pub(super) text: String,
    pub(super) plain: bool,
}

impl Map {
    pub(super) fn index(&self, key: &str) -> Option<usize> {
        self.0.iter().position(|(k, _)| k.text == key)
    }

    pub(super) fn get(&self, key: &str) -> Option<&Value> {
        self.index(key).map(|i| &self.0[i].1)
    }

    pub(super) fn get_mut(&mut self, key: &str) -> Option<&mut Value> {
        self.index(key).map(|i| &mut self.0[i].1)
    }

    pub(super) fn map(&self, key: &str) -> Option<&Map> {
        self.get(key)?.as_map()
    }

    pub(super) fn map_mut(&mut self, key: &str) -> Option<&mut Map> {
        match self.get_mut(key)? {
            Value::Map(map) => Some(map),
            _ => None,
        }
    }

    pub(super) fn list(&self, key: &str) -> &[Value] {
        self.get(key).and_then(Value::as_list).unwrap_or_default()
    }

    pub(super) fn scalar(&self, key: &str) -> Option<&str> {
        self.get(key)
            .filter(|value| !value.is_empty())
            .and_then(Value::scalar)
    }

    /// The value at a path of keys.
    pub(super) fn at(&self, path: &[&str]) -> Option<&Value> {
        let (last, folders) = path.split_last()?;
        let mut map = self;
        for key in folders {
            map = map.map(key)?;
        }
        map.get(last)
    }

    /// Puts `value` in the place of the key's value, or behind the last key.
    pub(super) fn set(&mut self, key: &str, value: Value) {
        let end = self.0.len();
        self.set_at(end, key, value);
    }

    /// Puts `value` in the place of the key's value, or a new key at `index`.
    pub(super) fn set_at(&mut self, index: usize, key: &str, value: Value) {
        match self.get_mut(key) {
            Some(place) => *place = value,
            None => self.0.insert(index, (Key::text(key), value)),
        }
    }

    pub(super) fn remove(&mut self, key: &str) -> Option<Value> {
        self.index(key).map(|i| self.0.remove(i).1)
    }
}

impl Key {
    fn text(text: &str) -> Self {
        Self {
            text: text.to_owned(),
            plain: surely_text(text),
        }
    }
}

/// The documents in `text`; one with nothing but comments is null.
///
/// # Errors
///
/// `LINE:COLUMN: reason` where it is no YAML, or uses tags, merge keys or keys that are no text.
pub(super) fn parse(text: &str) -> Result<Vec<Value>, String> {
    let options = options! {
        flow_nesting_limit: NESTING_LIMIT,
        block_nesting_limit: NESTING_LIMIT,
        emit_comments: false,
    };
    let mut builder = Builder {
        events: Parser::new_from_str_with_options(text, options),
        at: (1, 1),
        anchors: HashMap::new(),
        aliased: 0,
    };
    let mut documents = Vec::new();
    loop {
        match builder.next()? {
            Event::StreamEnd => return Ok(documents),
            Event::StreamStart | Event::DocumentEnd => {}
            Event::DocumentStart(..) => {
                builder.anchors.clear();
                builder.aliased = 0;
            }
            event => {
                let document = builder.node(event)?;
                documents.push(document);
            }
        }
    }
}

struct Builder<'t> {
    events: Parser<'t, StrInput<'t>>,
    at: (usize, usize),
    anchors: HashMap<usize, Value>,
    aliased: usize,
}

impl<'t> Builder<'t> {
    fn next(&mut self) -> Result<Event<'t>, String> {
        match self.events.next_event() {
            Some(Ok((event, span))) => {
                self.at = (span.start.line(), span.start.col() + 1);
                Ok(event)
            }
            Some(Err(error)) => {
                let marker = error.marker();
                self.at = (marker.line(), marker.col() + 1);
                self.refuse(&error.info())
            }
            None => Ok(Event::StreamEnd),
        }
    }

    fn refuse<T>(&self, reason: &str) -> Result<T, String> {
        Err(format!("{}:{}: {reason}", self.at.0, self.at.1))
    }

    fn node(&mut self, event: Event<'t>) -> Result<Value, String> {
        let (anchor, tag) = match &event {
            Event::Alias(anchor) => return self.alias(*anchor),
            Event::Scalar(_, _, anchor, tag)
            | Event::SequenceStart(_, anchor, tag)
            | Event::MappingStart(_, anchor, tag) => (*anchor, tag.is_some()),
            _ => return self.refuse("expected a value"),
        };
        if tag {
            return self.refuse("expected a value without a tag");
        }
        let value = match event {
            Event::Scalar(text, style, ..) => scalar(&text, style),
            Event::SequenceStart(..) => Value::List(self.items()?),
            _ => Value::Map(self.entries()?),
        };
        if anchor != 0 {
            self.anchors.insert(anchor, value.clone());
        }
        Ok(value)
    }

    fn alias(&mut self, anchor: usize) -> Result<Value, String> {
        let Some(value) = self.anchors.get(&anchor).cloned() else {
            return self.refuse("expected an alias of a value that has ended");
        };
        self.aliased += value.nodes();
        if self.aliased > ALIASED_NODES {
            return self.refuse("expected fewer aliases");
        }
        Ok(value)
    }

    fn items(&mut self) -> Result<Vec<Value>, String> {
        let mut items = Vec::new();
        loop {
            match self.next()? {
                Event::SequenceEnd | Event::StreamEnd => return Ok(items),
                event => items.push(self.node(event)?),
            }
        }
    }

    fn entries(&mut self) -> Result<Map, String> {
        let mut map = Map::default();
        loop {
            let key = match self.next()? {
                Event::MappingEnd | Event::StreamEnd => return Ok(map),
                Event::Scalar(text, style, 0, None) => Key {
                    plain: (style == ScalarStyle::Plain && !text.contains('\n'))
                        || surely_text(&text),
                    text: text.into_owned(),
                },
                _ => return self.refuse("expected a key that is plain text"),
            };
            if key.plain && key.text == "<<" {
                return self.refuse("expected the keys themselves: `<<` is not taken");
            }
            if map.index(&key.text).is_some() {
                return self.refuse(&format!("expected the key {} once", key.text));
            }
            let event = self.next()?;
            let value = self.node(event)?;
            map.0.push((key, value));
        }
    }
}

fn scalar(text: &str, style: ScalarStyle) -> Value {
    let text = text.to_owned();
    if style != ScalarStyle::Plain || text.contains('\n') || surely_text(&text) {
        Value::Text(text)
    } else if text.is_empty() {
        Value::null()
    } else {
        Value::Plain(text)
    }
}
