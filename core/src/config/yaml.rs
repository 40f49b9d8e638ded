//! YAML text as a tree whose nodes know where they stand.

use granit_parser::{Event, Parser, Span, StrInput, options};

use super::report::Position;

/// How deep collections may lie in each other; the configuration itself needs six levels.
const NESTING_LIMIT: usize = 32;

/// A value and where it starts.
pub(super) struct Node {
    pub(super) at: Position,
    pub(super) value: Value,
}

impl Node {
    /// The value of a key, where this is a mapping that has it.
    pub(super) fn entry(&self, key: &str) -> Option<&Node> {
        let Value::Mapping(entries) = &self.value else {
            return None;
        };
        let entry = entries.iter().find(|entry| entry.key == key)?;
        Some(&entry.value)
    }
}

/// What a node holds. Scalars are text: what a key's value may be decides how it is read.
pub(super) enum Value {
    Null,
    Scalar(String),
    Sequence(Vec<Node>),
    Mapping(Vec<Entry>),
}

/// A key with its value, in the order as written; keys may repeat.
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) at: Position,
    pub(super) value: Node,
}

/// The text is no YAML, or uses a part of YAML that is not taken here.
#[derive(Debug)]
pub(super) struct SyntaxError {
    pub(super) at: Position,
    pub(super) reason: String,
}

/// The tree of the only document in `text`; `None` when there is no document.
pub(super) fn parse(text: &str) -> Result<Option<Node>, SyntaxError> {
    let options = options! {
        flow_nesting_limit: NESTING_LIMIT,
        block_nesting_limit: NESTING_LIMIT,
        emit_comments: false,
    };
    let mut builder = Builder {
        events: Parser::new_from_str_with_options(text, options),
    };
    builder.document()
}

struct Builder<'t> {
    events: Parser<'t, StrInput<'t>>,
}

impl<'t> Builder<'t> {
    fn next(&mut self) -> Result<(Event<'t>, Position), SyntaxError> {
        match self.events.next_event() {
            Some(Ok((event, span))) => Ok((event, start(&span))),
            Some(Err(error)) => Err(SyntaxError {
                at: Position::of(error.marker()),
                reason: error.info(),
            }),
            None => Ok((Event::StreamEnd, Position::default())),
        }
    }

    fn document(&mut self) -> Result<Option<Node>, SyntaxError> {
        let mut root = None;
        loop {
            let (event, at) = self.next()?;
            match event {
                Event::StreamEnd => return Ok(root),
                Event::StreamStart | Event::DocumentEnd => {}
                Event::DocumentStart(..) if root.is_some() => {
                    return refuse(at, "expected one document, and here a second one starts");
                }
                Event::DocumentStart(..) => {}
                event => root = Some(self.node(event, at)?),
            }
        }
    }

    fn node(&mut self, event: Event<'t>, at: Position) -> Result<Node, SyntaxError> {
        let (anchor, tag) = match &event {
            Event::Scalar(_, _, anchor, tag)
            | Event::SequenceStart(_, anchor, tag)
            | Event::MappingStart(_, anchor, tag) => (*anchor, tag.is_some()),
            _ => return refuse(at, "expected the value itself: aliases are not taken"),
        };
        if anchor != 0 || tag {
            return refuse(at, "expected a value without an anchor and without a tag");
        }
        let value = match event {
            Event::Scalar(text, style, ..) => scalar(&text, style),
            Event::SequenceStart(..) => Value::Sequence(self.items()?),
            _ => Value::Mapping(self.entries()?),
        };
        Ok(Node { at, value })
    }

    fn items(&mut self) -> Result<Vec<Node>, SyntaxError> {
        let mut items = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd | Event::StreamEnd, _) => return Ok(items),
                (event, at) => items.push(self.node(event, at)?),
            }
        }
    }

    fn entries(&mut self) -> Result<Vec<Entry>, SyntaxError> {
        let mut entries = Vec::new();
        loop {
            let (event, at) = self.next()?;
            let key = match event {
                Event::MappingEnd | Event::StreamEnd => return Ok(entries),
                Event::Scalar(text, _, 0, None) => text.into_owned(),
                _ => return refuse(at, "expected a key that is plain text"),
            };
            let (event, value_at) = self.next()?;
            let value = self.node(event, value_at)?;
            entries.push(Entry { key, at, value });
        }
    }
}

/// The null of YAML's core schema (YAML 1.2.2, 10.3.2), else the text.
fn scalar(text: &str, style: granit_parser::ScalarStyle) -> Value {
    let plain = style == granit_parser::ScalarStyle::Plain;
    if plain && matches!(text, "" | "~" | "null" | "Null" | "NULL") {
        Value::Null
    } else {
        Value::Scalar(text.to_owned())
    }
}

fn start(span: &Span) -> Position {
    Position::of(&span.start)
}

fn refuse<T>(at: Position, reason: &str) -> Result<T, SyntaxError> {
    Err(SyntaxError {
        at,
        reason: reason.to_owned(),
    })
}
