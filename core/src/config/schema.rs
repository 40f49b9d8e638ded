//! The JSON Schema of the configuration, for editors. It is made of the same list of keys as the
//! walk over the configuration, and kept in config/seedwire.schema.json; the test here writes it
//! anew when `SEEDWIRE_WRITE_SCHEMA` is set.

use std::borrow::Cow;
use std::path::Path;

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Value, json};

use super::leaf::{
    DnsAddress, HttpListen, Mark, PeerName, Period, Size, SocketPath, StartupWait, Whole,
};
use super::model::{Backend, LogFormat, LogLevel, Order, Protocol, Upstream};
use super::read::{At, OneOrMore};
use super::secret::{AddressList, Certificates, FromEnvironment, FromFile};
use super::server::{Scheme, Server, ServerKeys, ServerText};
use super::written::{List, Root, Route, Routes};
use crate::types::{DnsName, Endpoint, InterfaceAddress, InterfaceName, Prefix, PublicKey};

/// Any text with a reference to the environment in it.
const REFERENCE: &str = r"\$\{[A-Za-z_][A-Za-z0-9_]*\}";

/// A DNS server in one piece of text.
const SERVER: &str =
    r"^((tcp|tls)://)?[0-9a-fA-F.:\[\]]+(%[^/:\s]{1,15})?(\]:[0-9]+)?(#[A-Za-z0-9_.-]+)?$|\$\{";

macro_rules! schema {
    ($($({$($generic:tt)*})? $type:ty => $schema:expr;)*) => {$(
        impl<$($($generic)*)?> JsonSchema for $type {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> Cow<'static, str> {
                stringify!($type).into()
            }

            fn json_schema(generator: &mut SchemaGenerator) -> Schema {
                let make: fn(&mut SchemaGenerator) -> Schema = $schema;
                make(generator)
            }
        }
    )*};
}

schema! {
    {T: JsonSchema} At<T> => |generator| generator.subschema_for::<T>();
    {T: JsonSchema} OneOrMore<T> => |generator| {
        let one = generator.subschema_for::<T>();
        let more = generator.subschema_for::<List<T>>();
        json_schema!({"anyOf": [one, more]})
    };
    Routes => |generator| {
        let list = generator.subschema_for::<List<Route>>();
        json_schema!({"anyOf": [{"const": "auto"}, list]})
    };
    {K} FromEnvironment<K> => |_| text(&format!("^{REFERENCE}$"));
    {K} FromFile<K> => |_| text(r"^(/|\$\{)");
    AddressList => |_| text(r"^(/|\$\{)");
    Certificates => |_| text(r"^(/|\$\{)");
    ServerText => |_| text(SERVER);
    Server => |generator| {
        let keys = generator.subschema_for::<ServerKeys>();
        json_schema!({"anyOf": [text_value(SERVER), keys]})
    };
    {const LEAST: u64, const MOST: u64} Whole<LEAST, MOST> => |_| or_reference(
        json!({"type": "integer", "minimum": LEAST, "maximum": MOST})
    );
    Mark => |_| json_schema!({"anyOf": [
        {"type": "integer", "minimum": 1, "maximum": u32::MAX},
        text_value(&format!("^0[xX][0-9a-fA-F]{{1,8}}$|{REFERENCE}")),
    ]});
    Backend => |_| choice(Backend::CHOICES);
    Protocol => |_| choice(Protocol::CHOICES);
    Scheme => |_| choice(Scheme::CHOICES);
    Order => |_| choice(Order::CHOICES);
    LogLevel => |_| choice(LogLevel::CHOICES);
    LogFormat => |_| choice(LogFormat::CHOICES);
    Period => |_| text(&format!("^[0-9]+(ms|s|m|h)$|{REFERENCE}"));
    StartupWait => |_| text(&format!("^never$|^[0-9]+(ms|s|m|h)$|{REFERENCE}"));
    Size => |_| json_schema!({"anyOf": [
        {"const": 0},
        text_value(&format!("^[0-9]+(B|KiB|MiB|GiB)$|^0$|{REFERENCE}")),
    ]});
    InterfaceName => |_| text(r"^[^/:\s]{1,15}$|\$\{");
    PeerName => |_| text(r"^[A-Za-z0-9_.-]{1,63}$|\$\{");
    PublicKey => |_| text(r"^[A-Za-z0-9+/]{43}=$|\$\{");
    Prefix => |_| text(r"^[0-9a-fA-F.:]+(/[0-9]{1,3})?$|\$\{");
    InterfaceAddress => |_| text(r"^[0-9a-fA-F.:]+(/[0-9]{1,3})?$|\$\{");
    Endpoint => |_| text(r":[0-9]{1,5}$|\$\{");
    DnsAddress => |_| text(r"^[0-9a-fA-F.:\[\]]+$|\$\{");
    Upstream => |generator| {
        let keys = generator.subschema_for::<ServerKeys>();
        json_schema!({"anyOf": [{"const": "system"}, text_value(SERVER), keys]})
    };
    DnsName => |_| text(r"^[A-Za-z0-9_.-]{1,254}$|\$\{");
    HttpListen => |_| text(r"^off$|:[0-9]{1,5}$|\$\{");
    SocketPath => |_| text(r"^/.{0,106}$|\$\{");
}

fn text_value(pattern: &str) -> Value {
    json!({"type": "string", "pattern": pattern})
}

fn text(pattern: &str) -> Schema {
    json_schema!({"type": "string", "pattern": pattern})
}

fn choice(choices: &[&str]) -> Schema {
    json_schema!({"enum": choices})
}

fn or_reference(schema: Value) -> Schema {
    json_schema!({"anyOf": [schema, text_value(REFERENCE)]})
}

/// Every field may be absent, and none may be null: `Option` stands for the first alone.
fn without_null(schema: &mut Value) {
    match schema {
        Value::Array(items) => items.iter_mut().for_each(without_null),
        Value::Object(members) => {
            if let Some(Value::Array(kinds)) = members.get_mut("type") {
                kinds.retain(|kind| kind != "null");
                if let [only] = kinds.as_slice() {
                    let only = only.clone();
                    members.insert("type".to_owned(), only);
                }
            }
            if let Some(Value::Array(kinds)) = members.get_mut("enum") {
                kinds.retain(|kind| !kind.is_null());
            }
            if let Some(Value::Array(choices)) = members.get_mut("anyOf") {
                choices.retain(|choice| *choice != json!({"type": "null"}));
                if let [Value::Object(only)] = choices.as_slice() {
                    let only = only.clone();
                    members.remove("anyOf");
                    members.extend(only);
                }
            }
            members.values_mut().for_each(without_null);
        }
        _ => {}
    }
}

fn generate() -> String {
    let generator = SchemaSettings::draft07().into_generator();
    let mut schema = generator.into_root_schema_for::<Root>().to_value();
    without_null(&mut schema);
    schema["title"] = json!("seedwire");
    format!("{schema:#}\n")
}

#[test]
#[allow(
    clippy::disallowed_methods,
    reason = "the test compares a file of the repository, and writes it when asked to"
)]
fn the_schema_in_the_repository_is_fresh() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../config/seedwire.schema.json");
    let schema = generate();
    if std::env::var_os("SEEDWIRE_WRITE_SCHEMA").is_some() {
        std::fs::write(&path, &schema).expect("the schema can be written");
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        kept == schema,
        "config/seedwire.schema.json is stale; run SEEDWIRE_WRITE_SCHEMA=1 cargo test -p seedwire-core schema"
    );
}
