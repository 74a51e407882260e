//! The records of an apply file: one struct a section, unknown fields and doubled ones refused.
//!
//! A field may be absent (keeps its value, or takes its default), null (cleared, where a field can be) or a value; so
//! every field is an `Option`, and one that can be cleared an `Option` in an `Option`.

use std::fmt;
use std::marker::PhantomData;

use keyward_proto::admin::{
    AgentPatch, Clearable, CredentialName, CredentialPatch, EndpointPatch, Patch, RetiringPatch, Secret, SetText,
};
use keyward_proto::query::Mode;
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};

/// A whole file.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FileForm {
    #[serde(default, deserialize_with = "given")]
    pub(super) agents: Option<Vec<Object<AgentForm>>>,
    #[serde(default, deserialize_with = "given")]
    pub(super) endpoints: Option<Vec<Object<EndpointForm>>>,
    #[serde(default, deserialize_with = "given")]
    pub(super) keys: Option<Vec<Object<KeyForm>>>,
    #[serde(default, deserialize_with = "given")]
    pub(super) tokens: Option<Vec<Object<TokenForm>>>,
    #[serde(default, deserialize_with = "given")]
    pub(super) sessions: Option<Vec<Object<SessionForm>>>,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AgentForm {
    id: u64,
    #[serde(default, deserialize_with = "given")]
    name: Option<String>,
    #[serde(default, deserialize_with = "given_set")]
    permissions: Option<SetText>,
    #[serde(default, deserialize_with = "given")]
    enabled: Option<bool>,
    #[serde(default, deserialize_with = "given_attributes")]
    attributes: Option<Vec<(String, String)>>,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct EndpointForm {
    method: String,
    path: String,
    #[serde(default, deserialize_with = "given")]
    tags: Option<Vec<String>>,
    #[serde(default, deserialize_with = "given")]
    modes: Option<Vec<String>>,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct KeyForm {
    id: u64,
    #[serde(default, deserialize_with = "given")]
    superuser: Option<bool>,
    #[serde(default)]
    agent: Option<u64>,
    #[serde(default, deserialize_with = "clearable")]
    default_agent: Clearable<u64>,
    #[serde(default, deserialize_with = "given")]
    label: Option<String>,
    #[serde(default, deserialize_with = "given_code")]
    code: Option<Secret>,
    #[serde(default, deserialize_with = "given_set")]
    tags: Option<SetText>,
    #[serde(default, deserialize_with = "given")]
    enabled: Option<bool>,
    #[serde(default, deserialize_with = "given")]
    revoked: Option<bool>,
    #[serde(default, deserialize_with = "clearable")]
    not_before: Clearable<u64>,
    #[serde(default, deserialize_with = "clearable")]
    expires_at: Clearable<u64>,
    #[serde(default, deserialize_with = "clearable")]
    allow_ip: Clearable<Vec<String>>,
    #[serde(default, deserialize_with = "clearable")]
    rate: Clearable<String>,
    #[serde(default, deserialize_with = "given_code")]
    hash: Option<Secret>,
    #[serde(default, deserialize_with = "given_retiring")]
    retiring: Option<RetiringPatch>,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TokenForm {
    id: u64,
    #[serde(default)]
    agent: Option<u64>,
    #[serde(default, deserialize_with = "clearable")]
    app_id: Clearable<u64>,
    #[serde(default, deserialize_with = "given")]
    label: Option<String>,
    #[serde(default, deserialize_with = "given_code")]
    code: Option<Secret>,
    #[serde(default, deserialize_with = "given_set")]
    tags: Option<SetText>,
    #[serde(default, deserialize_with = "given")]
    enabled: Option<bool>,
    #[serde(default, deserialize_with = "given")]
    revoked: Option<bool>,
    #[serde(default, deserialize_with = "clearable")]
    not_before: Clearable<u64>,
    #[serde(default, deserialize_with = "clearable")]
    expires_at: Clearable<u64>,
    #[serde(default, deserialize_with = "clearable")]
    allow_ip: Clearable<Vec<String>>,
    #[serde(default, deserialize_with = "clearable")]
    rate: Clearable<String>,
    #[serde(default, deserialize_with = "given_parent")]
    parent: Option<CredentialName>,
    #[serde(default, deserialize_with = "given_code")]
    hash: Option<Secret>,
    #[serde(default, deserialize_with = "given_retiring")]
    retiring: Option<RetiringPatch>,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SessionForm {
    id: u64,
    #[serde(default)]
    agent: Option<u64>,
    #[serde(default, deserialize_with = "given")]
    label: Option<String>,
    #[serde(default, deserialize_with = "given_code")]
    code: Option<Secret>,
    #[serde(default, deserialize_with = "given_set")]
    tags: Option<SetText>,
    #[serde(default, deserialize_with = "given")]
    enabled: Option<bool>,
    #[serde(default, deserialize_with = "given")]
    revoked: Option<bool>,
    #[serde(default, deserialize_with = "clearable")]
    not_before: Clearable<u64>,
    #[serde(default, deserialize_with = "clearable")]
    expires_at: Clearable<u64>,
    #[serde(default, deserialize_with = "clearable")]
    allow_ip: Clearable<Vec<String>>,
    #[serde(default, deserialize_with = "clearable")]
    rate: Clearable<String>,
    #[serde(default, deserialize_with = "given_code")]
    hash: Option<Secret>,
    #[serde(default, deserialize_with = "given_retiring")]
    retiring: Option<RetiringPatch>,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct RetiringForm {
    #[serde(default, deserialize_with = "given_code")]
    hash: Option<Secret>,
    until: u64,
}

impl From<AgentForm> for Patch {
    fn from(form: AgentForm) -> Self {
        let AgentForm { id, name, permissions, enabled, attributes } = form;
        Self::Agent(AgentPatch { id: Some(id), name, permissions, enabled, attributes })
    }
}

impl From<EndpointForm> for Patch {
    fn from(form: EndpointForm) -> Self {
        let EndpointForm { method, path, tags, modes } = form;
        Self::Endpoint(EndpointPatch { method, path, tags, modes })
    }
}

impl From<KeyForm> for CredentialPatch {
    fn from(form: KeyForm) -> Self {
        Self {
            label: form.label,
            code: form.code,
            superuser: form.superuser,
            agent: form.agent,
            default_agent: form.default_agent,
            tags: form.tags,
            enabled: form.enabled,
            revoked: form.revoked,
            not_before: form.not_before,
            expires_at: form.expires_at,
            allow_ip: form.allow_ip,
            rate: form.rate,
            hash: form.hash,
            retiring: form.retiring,
            ..Self::new(Mode::Key, Some(form.id))
        }
    }
}

impl From<KeyForm> for Patch {
    fn from(form: KeyForm) -> Self {
        Self::Credential(form.into())
    }
}

impl From<TokenForm> for Patch {
    fn from(form: TokenForm) -> Self {
        Self::Credential(CredentialPatch {
            label: form.label,
            code: form.code,
            agent: form.agent,
            app_id: form.app_id,
            tags: form.tags,
            enabled: form.enabled,
            revoked: form.revoked,
            not_before: form.not_before,
            expires_at: form.expires_at,
            allow_ip: form.allow_ip,
            rate: form.rate,
            hash: form.hash,
            retiring: form.retiring,
            parent: form.parent,
            ..CredentialPatch::new(Mode::Token, Some(form.id))
        })
    }
}

impl From<SessionForm> for Patch {
    fn from(form: SessionForm) -> Self {
        Self::Credential(CredentialPatch {
            label: form.label,
            code: form.code,
            agent: form.agent,
            tags: form.tags,
            enabled: form.enabled,
            revoked: form.revoked,
            not_before: form.not_before,
            expires_at: form.expires_at,
            allow_ip: form.allow_ip,
            rate: form.rate,
            hash: form.hash,
            retiring: form.retiring,
            ..CredentialPatch::new(Mode::Session, Some(form.id))
        })
    }
}

/// A struct written as an object and nothing else: by itself serde would take an array too, field by field.
pub(super) struct Object<T>(pub(super) T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ObjectVisitor<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for ObjectVisitor<T> {
            type Value = Object<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Object<T>, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(Object)
            }
        }

        deserializer.deserialize_map(ObjectVisitor(PhantomData))
    }
}

/// A field that is there has a value: null is refused as any wrong type is.
fn given<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

/// A field that is there has a value or is cleared.
fn clearable<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<Clearable<T>, D::Error> {
    Option::<T>::deserialize(deserializer).map(Some)
}

fn given_set<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<SetText>, D::Error> {
    struct SetVisitor;

    impl<'de> Visitor<'de> for SetVisitor {
        type Value = SetText;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a tag set: a string or an array of strings")
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<SetText, E> {
            Ok(SetText::Text(text.to_owned()))
        }

        fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<SetText, A::Error> {
            Vec::deserialize(SeqAccessDeserializer::new(items)).map(SetText::Items)
        }
    }

    deserializer.deserialize_any(SetVisitor).map(Some)
}

fn given_attributes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<(String, String)>>, D::Error> {
    struct AttributesVisitor;

    impl<'de> Visitor<'de> for AttributesVisitor {
        type Value = Vec<(String, String)>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("attributes: an object of strings")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut seen = std::collections::BTreeSet::new();
            let mut attributes = Vec::new();
            while let Some(name) = map.next_key::<String>()? {
                if !seen.insert(name.clone()) {
                    return Err(A::Error::custom(format!("duplicate attribute `{name}`")));
                }
                attributes.push((name, map.next_value()?));
            }
            Ok(attributes)
        }
    }

    deserializer.deserialize_map(AttributesVisitor).map(Some)
}

/// `key 2`: the credential that a token was made from.
fn given_parent<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<CredentialName>, D::Error> {
    let text = String::deserialize(deserializer)?;
    let read = || {
        let (mode, id) = text.split_once(' ')?;
        let mode = [Mode::Key, Mode::Token, Mode::Session].into_iter().find(|known| known.name() == mode)?;
        Some(CredentialName { mode, id: id.parse().ok()? })
    };
    read().map(Some).ok_or_else(|| D::Error::custom("a parent is a mode and an id, as in \"key 2\""))
}

/// A retiring code's hash and its deadline.
fn given_retiring<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<RetiringPatch>, D::Error> {
    let Object(RetiringForm { hash, until }) = Object::deserialize(deserializer)?;
    let hash = hash.ok_or_else(|| D::Error::missing_field("hash"))?;
    Ok(Some(RetiringPatch { hash, until }))
}

/// A code goes straight into its wiped buffer, and no refusal shows what stood in its place.
fn given_code<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Secret>, D::Error> {
    struct CodeVisitor;

    impl<'de> Visitor<'de> for CodeVisitor {
        type Value = Secret;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a code: a string")
        }

        fn visit_str<E: Error>(self, code: &str) -> Result<Secret, E> {
            Ok(Secret::new(code.as_bytes().to_vec()))
        }

        fn visit_string<E: Error>(self, code: String) -> Result<Secret, E> {
            Ok(Secret::new(code.into_bytes()))
        }

        fn visit_bool<E: Error>(self, _: bool) -> Result<Secret, E> {
            Err(E::custom("a code is a string"))
        }

        fn visit_i64<E: Error>(self, _: i64) -> Result<Secret, E> {
            Err(E::custom("a code is a string, not a number"))
        }

        fn visit_u64<E: Error>(self, _: u64) -> Result<Secret, E> {
            Err(E::custom("a code is a string, not a number"))
        }

        fn visit_f64<E: Error>(self, _: f64) -> Result<Secret, E> {
            Err(E::custom("a code is a string, not a number"))
        }
    }

    deserializer.deserialize_any(CodeVisitor).map(Some)
}
