//! The parts of an OpenAPI description that say what endpoints there are. Everything else in it is passed over unread.

use std::fmt;
use std::marker::PhantomData;

use serde::de::value::SeqAccessDeserializer;
use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::super::apply_forms::Object;

/// A whole description.
#[derive(serde::Deserialize)]
pub(super) struct Document {
    pub(super) openapi: Option<String>,
    /// The field that OpenAPI 2 has instead.
    pub(super) swagger: Option<IgnoredAny>,
    pub(super) servers: Option<Vec<Object<Server>>>,
    #[serde(default)]
    pub(super) paths: Paths<Object<PathItem>>,
    #[serde(default)]
    pub(super) components: Components,
    pub(super) security: Option<Vec<Requirement>>,
}

#[derive(serde::Deserialize)]
pub(super) struct Server {
    #[serde(default)]
    pub(super) url: String,
    #[serde(default)]
    pub(super) variables: Named<Object<Variable>>,
}

#[derive(serde::Deserialize)]
pub(super) struct Variable {
    pub(super) default: Option<String>,
}

/// All operations on one path.
#[derive(serde::Deserialize)]
pub(super) struct PathItem {
    #[serde(rename = "$ref")]
    pub(super) reference: Option<String>,
    pub(super) servers: Option<Vec<Object<Server>>>,
    #[serde(default)]
    pub(super) parameters: Vec<Object<Parameter>>,
    get: Option<Box<Object<Operation>>>,
    put: Option<Box<Object<Operation>>>,
    post: Option<Box<Object<Operation>>>,
    delete: Option<Box<Object<Operation>>>,
    options: Option<Box<Object<Operation>>>,
    head: Option<Box<Object<Operation>>>,
    patch: Option<Box<Object<Operation>>>,
    trace: Option<Box<Object<Operation>>>,
}

impl PathItem {
    /// Its operations with their methods, in a fixed order.
    pub(super) fn operations(&self) -> impl Iterator<Item = (&'static str, &Operation)> {
        [
            ("GET", &self.get),
            ("PUT", &self.put),
            ("POST", &self.post),
            ("DELETE", &self.delete),
            ("OPTIONS", &self.options),
            ("HEAD", &self.head),
            ("PATCH", &self.patch),
            ("TRACE", &self.trace),
        ]
        .into_iter()
        .filter_map(|(method, operation)| operation.as_ref().map(|operation| (method, &operation.0)))
    }
}

#[derive(serde::Deserialize)]
pub(super) struct Operation {
    pub(super) servers: Option<Vec<Object<Server>>>,
    #[serde(default)]
    pub(super) parameters: Vec<Object<Parameter>>,
    #[serde(default)]
    pub(super) responses: Paths<Object<Response>>,
    pub(super) security: Option<Vec<Requirement>>,
    #[serde(rename = "x-keyward-tags")]
    pub(super) tags: Option<Words>,
    #[serde(rename = "x-keyward-modes")]
    pub(super) modes: Option<Words>,
}

/// Schemes that a request must satisfy together, by name.
pub(super) type Requirement = Named<IgnoredAny>;

#[derive(serde::Deserialize)]
pub(super) struct Parameter {
    #[serde(rename = "$ref")]
    pub(super) reference: Option<String>,
    pub(super) name: Option<String>,
    #[serde(rename = "in")]
    pub(super) place: Option<String>,
    #[serde(rename = "x-keyward-multi-segment")]
    multi_segment: Option<bool>,
    #[serde(rename = "x-multi-segment")]
    multi_segment_plain: Option<bool>,
}

impl Parameter {
    /// Whether its value may hold slashes.
    pub(super) fn spans_segments(&self) -> bool {
        self.multi_segment.or(self.multi_segment_plain) == Some(true)
    }
}

#[derive(serde::Deserialize)]
pub(super) struct Response {
    #[serde(rename = "$ref")]
    pub(super) reference: Option<String>,
    #[serde(default)]
    pub(super) content: Named<Object<MediaType>>,
}

#[derive(serde::Deserialize)]
pub(super) struct MediaType {
    pub(super) schema: Option<Schema>,
}

/// What is shared by name.
#[derive(Default, serde::Deserialize)]
pub(super) struct Components {
    #[serde(default)]
    pub(super) parameters: Named<Object<Parameter>>,
    #[serde(default)]
    pub(super) responses: Named<Object<Response>>,
    #[serde(default)]
    pub(super) schemas: Named<Schema>,
    #[serde(default, rename = "pathItems")]
    pub(super) path_items: Named<Object<PathItem>>,
    #[serde(default, rename = "securitySchemes")]
    pub(super) security_schemes: Named<Object<SecurityScheme>>,
}

#[derive(serde::Deserialize)]
pub(super) struct SecurityScheme {
    #[serde(rename = "$ref")]
    pub(super) reference: Option<String>,
    #[serde(rename = "x-keyward-mode")]
    pub(super) mode: Option<Words>,
}

/// As much of a schema as tells whether it is a list.
#[derive(Default)]
pub(super) struct Schema {
    pub(super) reference: Option<String>,
    pub(super) is_array: bool,
}

impl<'de> Deserialize<'de> for Schema {
    /// A schema is an object, or since 3.1 true or false.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct SchemaVisitor;

        impl<'de> Visitor<'de> for SchemaVisitor {
            type Value = Schema;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a schema: an object, true or false")
            }

            fn visit_bool<E: Error>(self, _: bool) -> Result<Schema, E> {
                Ok(Schema::default())
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Schema, A::Error> {
                let mut schema = Schema::default();
                while let Some(name) = map.next_key::<String>()? {
                    match name.as_str() {
                        "$ref" => schema.reference = Some(map.next_value()?),
                        "type" => schema.is_array = map.next_value::<Words>()?.0.iter().any(|word| word == "array"),
                        _ => drop(map.next_value::<IgnoredAny>()?),
                    }
                }
                Ok(schema)
            }
        }

        deserializer.deserialize_any(SchemaVisitor)
    }
}

/// One word, or a list of words; in one string they are separated by commas.
pub(super) struct Words(pub(super) Vec<String>);

impl<'de> Deserialize<'de> for Words {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct WordsVisitor;

        impl<'de> Visitor<'de> for WordsVisitor {
            type Value = Words;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string or an array of strings")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Words, E> {
                Ok(Words(text.split(',').map(|word| word.trim().to_owned()).collect()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<Words, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(items)).map(Words)
            }
        }

        deserializer.deserialize_any(WordsVisitor)
    }
}

/// An object as its entries in the file's order; a doubled name is refused, since one of the two would be lost.
pub(super) struct Named<T>(pub(super) Vec<(String, T)>);

impl<T> Named<T> {
    pub(super) fn get(&self, name: &str) -> Option<&T> {
        self.0.iter().find(|(own, _)| own == name).map(|(_, value)| value)
    }
}

impl<T> Default for Named<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Named<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(EntriesVisitor { skip: |_| false, kind: PhantomData }).map(Self)
    }
}

/// The same for objects whose entries may stand between extensions, `x-…`, which can be anything.
pub(super) struct Paths<T>(pub(super) Vec<(String, T)>);

impl<T> Default for Paths<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Paths<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let skip = |name: &str| name.starts_with("x-");
        deserializer.deserialize_map(EntriesVisitor { skip, kind: PhantomData }).map(Self)
    }
}

struct EntriesVisitor<T> {
    skip: fn(&str) -> bool,
    kind: PhantomData<T>,
}

impl<'de, T: Deserialize<'de>> Visitor<'de> for EntriesVisitor<T> {
    type Value = Vec<(String, T)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut seen = std::collections::HashSet::new();
        let mut entries = Vec::new();
        while let Some(name) = map.next_key::<String>()? {
            if (self.skip)(&name) {
                map.next_value::<IgnoredAny>()?;
                continue;
            }
            if !seen.insert(name.clone()) {
                return Err(A::Error::custom(format!("duplicate key `{name}`")));
            }
            entries.push((name, map.next_value()?));
        }
        Ok(entries)
    }
}

/// What a `$ref` to another part of the same file leads to.
impl Document {
    pub(super) fn parameter<'d>(&'d self, parameter: &'d Parameter) -> Option<&'d Parameter> {
        follow(parameter, |p| p.reference.as_deref(), |name| self.components.parameters.get(name), "parameters")
    }

    pub(super) fn response<'d>(&'d self, response: &'d Response) -> Option<&'d Response> {
        follow(response, |r| r.reference.as_deref(), |name| self.components.responses.get(name), "responses")
    }

    pub(super) fn security_scheme(&self, name: &str) -> Option<&SecurityScheme> {
        let schemes = &self.components.security_schemes;
        follow(&schemes.get(name)?.0, |s| s.reference.as_deref(), |name| schemes.get(name), "securitySchemes")
    }

    pub(super) fn path_item<'d>(&'d self, item: &'d PathItem) -> Option<&'d PathItem> {
        follow(item, |i| i.reference.as_deref(), |name| self.components.path_items.get(name), "pathItems")
    }

    pub(super) fn is_array(&self, schema: &Schema) -> bool {
        let mut schema = schema;
        for _ in 0..REFERENCES_MAX {
            let Some(reference) = &schema.reference else { break };
            let named = component_name(reference, "schemas").and_then(|name| self.components.schemas.get(&name));
            let Some(named) = named else { return false };
            schema = named;
        }
        schema.is_array
    }
}

/// References to references are followed so far: a ring of them has no end.
const REFERENCES_MAX: usize = 16;

/// `None` for what leads out of the file, nowhere, or round and round.
fn follow<'d, T>(
    from: &'d T,
    reference: impl Fn(&T) -> Option<&str>,
    component: impl Fn(&str) -> Option<&'d Object<T>>,
    section: &str,
) -> Option<&'d T> {
    let mut at = from;
    for _ in 0..REFERENCES_MAX {
        let Some(to) = reference(at) else { return Some(at) };
        at = &component(&component_name(to, section)?)?.0;
    }
    None
}

/// `NAME` of `#/components/SECTION/NAME`, with the escapes of a JSON pointer undone.
fn component_name(reference: &str, section: &str) -> Option<String> {
    let name = reference.strip_prefix("#/components/")?.strip_prefix(section)?.strip_prefix('/')?;
    Some(name.replace("~1", "/").replace("~0", "~"))
}
