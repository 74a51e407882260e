//! From an OpenAPI description to endpoints: which there are, with which tags and modes, and which can't be. Pure.

mod derive;
mod document;
mod template;

use std::collections::{BTreeMap, BTreeSet};

use super::apply_forms::Object;
use super::file::{self, FileError, Syntax};
use crate::route::Template;
use crate::tags::{TAGS_MAX, Tag};
use derive::Siblings;
use document::{Document, Operation, Parameter, PathItem, Requirement, SecurityScheme, Server, Words};

/// The credential modes, in the order in which the daemon lists them.
const MODES: [&str; 3] = ["key", "token", "session"];
const PUBLIC: &str = "public";
/// What stands for all methods of a path whose operations are not known.
const ANY_METHOD: &str = "*";

/// What a description says.
#[derive(Default)]
pub(super) struct Imported {
    pub(super) endpoints: Vec<Endpoint>,
    pub(super) refused: Vec<RefusedOperation>,
    pub(super) collisions: Vec<Collision>,
    pub(super) notes: BTreeSet<String>,
}

/// One operation as an endpoint.
pub(super) struct Endpoint {
    pub(super) method: &'static str,
    pub(super) template: Template,
    pub(super) tags: Said<Vec<String>>,
    pub(super) modes: Said<Vec<String>>,
}

/// Where a field comes from.
pub(super) enum Said<T> {
    /// Written for Keyward: it applies always.
    Outright(T),
    /// Worked out: it applies to new endpoints.
    Derived(T),
}

/// An operation that can't be an endpoint.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct RefusedOperation {
    pub(super) method: String,
    pub(super) path: String,
    pub(super) why: String,
}

/// A derived tag that operations on several resources share.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Collision {
    pub(super) tag: String,
    /// `GET /path`, in the file's order.
    pub(super) operations: Vec<String>,
}

/// Reads a description.
///
/// # Errors
/// A file that is no OpenAPI 3.0 or 3.1 description is refused whole, with the place.
pub(super) fn read(text: &[u8], syntax: Syntax) -> Result<Imported, FileError> {
    let Object(document) = file::parse::<Object<Document>>(text, syntax)?;
    judge_version(&document).map_err(|why| FileError::Refused { line: 1, column: 1, why })?;
    let siblings = Siblings::of(document.paths.0.iter().map(|(path, _)| path.as_str()));
    let mut reader = Reader {
        document: &document,
        siblings,
        imported: Imported::default(),
        seen: BTreeMap::new(),
        derived: BTreeMap::new(),
    };
    for (path, Object(item)) in &document.paths.0 {
        reader.path(path, item);
    }
    Ok(reader.finish())
}

/// By its first characters, for a file whose name doesn't tell.
pub(super) fn guess_syntax(text: &[u8]) -> Syntax {
    if text.trim_ascii_start().starts_with(b"{") { Syntax::Json } else { Syntax::Yaml }
}

fn judge_version(document: &Document) -> Result<(), String> {
    match &document.openapi {
        Some(version) if version.starts_with("3.0") || version.starts_with("3.1") => Ok(()),
        Some(version) => {
            let version: String = version.chars().take(16).collect();
            Err(format!("OpenAPI {version} is not known; 3.0 and 3.1 are"))
        }
        None if document.swagger.is_some() => Err("it is Swagger 2; convert it to OpenAPI 3".to_owned()),
        None => Err("it has no field `openapi`: it is no OpenAPI description".to_owned()),
    }
}

struct Reader<'d> {
    document: &'d Document,
    siblings: Siblings,
    imported: Imported,
    /// The operation of each method and shape.
    seen: BTreeMap<(&'static str, String), String>,
    /// Operations by derived tag, with what they act on.
    derived: BTreeMap<String, Vec<(String, String)>>,
}

impl<'d> Reader<'d> {
    fn path(&mut self, path: &str, item: &'d PathItem) {
        let Some(item) = self.document.path_item(item) else {
            let why =
                "its operations lie behind a $ref that leads out of the file's components: bundle them into one file";
            self.refuse(ANY_METHOD, path, why.to_owned());
            return;
        };
        for (method, operation) in item.operations() {
            if let Err(why) = self.operation(method, path, item, operation) {
                self.refuse(method, path, why);
            }
        }
    }

    fn refuse(&mut self, method: &str, path: &str, why: String) {
        self.imported.refused.push(RefusedOperation { method: method.to_owned(), path: path.to_owned(), why });
    }

    fn operation(
        &mut self,
        method: &'static str,
        path: &str,
        item: &'d PathItem,
        operation: &'d Operation,
    ) -> Result<(), String> {
        let base = self.base_path(item, operation)?;
        let spanning = self.spanning_parameters(path, item, operation);
        let template = template::template(&base, path, &spanning)?;
        let tags = self.tags(method, path, operation)?;
        let modes = self.modes(operation)?;
        let key = (method, template.shape().to_owned());
        if let Some(before) = self.seen.get(&key) {
            return Err(format!(
                "it is the same endpoint as {before}, described twice: names of parameters tell nothing apart"
            ));
        }
        self.seen.insert(key, format!("{method} {path}"));
        if let Said::Derived(tags) = &tags {
            let resource = derive::resource(path);
            for tag in tags {
                self.derived.entry(tag.clone()).or_default().push((resource.clone(), format!("{method} {path}")));
            }
        }
        self.imported.endpoints.push(Endpoint { method, template, tags, modes });
        Ok(())
    }

    /// The nearest list of servers counts, and of it the first.
    fn base_path(&mut self, item: &'d PathItem, operation: &'d Operation) -> Result<String, String> {
        let document = self.document;
        let lists = [operation.servers.as_deref(), item.servers.as_deref(), document.servers.as_deref()];
        let servers: &[Object<Server>] = lists.into_iter().flatten().next().unwrap_or_default();
        let Some((Object(first), others)) = servers.split_first() else { return Ok(String::new()) };
        let base = template::base_path(first)?;
        for Object(other) in others {
            match template::base_path(other) {
                Ok(other) if other == base => {}
                Ok(other) => {
                    let (base, other) = (shown_base(&base), shown_base(&other));
                    self.note(format!("servers name several base paths: {base} is used, {other} is not"));
                }
                Err(why) => self.note(format!("a server beside the first is passed over: {why}")),
            }
        }
        Ok(base)
    }

    fn note(&mut self, text: String) {
        self.imported.notes.insert(text);
    }

    /// Names of path parameters whose values may hold slashes. What cannot be honoured is noted.
    fn spanning_parameters(&mut self, path: &str, item: &'d PathItem, operation: &'d Operation) -> BTreeSet<&'d str> {
        let mut spanning = BTreeSet::new();
        for Object(parameter) in item.parameters.iter().chain(&operation.parameters) {
            let Some(Parameter { name: Some(name), place, .. }) = self.document.parameter(parameter) else {
                self.note(format!(
                    "{path}: a parameter's $ref leads nowhere in the file; its values are taken to hold no `/`"
                ));
                continue;
            };
            if place.as_deref() != Some("path") {
                continue;
            }
            // The operation's own description of a parameter stands before the path's.
            if self.document.parameter(parameter).is_some_and(Parameter::spans_segments) {
                spanning.insert(name.as_str());
            } else {
                spanning.remove(name.as_str());
            }
        }
        let last = path.rsplit('/').next().and_then(template::parameter_alone);
        for name in spanning.iter().filter(|name| Some(**name) != last) {
            self.imported.notes.insert(format!(
                "{path}: `{{{name}}}` may hold `/` by its description but is not the whole last segment: it takes one segment"
            ));
        }
        spanning
    }

    fn tags(&self, method: &str, path: &str, operation: &Operation) -> Result<Said<Vec<String>>, String> {
        if let Some(Words(words)) = &operation.tags {
            return given_tags(words).map(Said::Outright);
        }
        let tag = derive::tag(method, path, &self.siblings, self.gives_array(operation))?;
        Ok(Said::Derived(vec![tag.as_str().to_owned()]))
    }

    /// Whether the response to success is described as an array.
    fn gives_array(&self, operation: &Operation) -> bool {
        let success = operation.responses.0.iter().find(|(status, _)| status == "200" || status == "2XX");
        let Some(response) = success.and_then(|(_, Object(response))| self.document.response(response)) else {
            return false;
        };
        let schemas = response.content.0.iter().filter_map(|(_, Object(media))| media.schema.as_ref());
        schemas.into_iter().any(|schema| self.document.is_array(schema))
    }

    fn modes(&self, operation: &Operation) -> Result<Said<Vec<String>>, String> {
        if let Some(Words(words)) = &operation.modes {
            return given_modes(words, "x-keyward-modes").map(Said::Outright);
        }
        let security = operation.security.as_ref().or(self.document.security.as_ref());
        security.map_or_else(|| Ok(all_modes()), |requirements| self.modes_of(requirements)).map(Said::Derived)
    }

    /// No requirement, or an empty one among them, needs no credential.
    fn modes_of(&self, requirements: &[Requirement]) -> Result<Vec<String>, String> {
        if requirements.is_empty() || requirements.iter().any(|requirement| requirement.0.is_empty()) {
            return Ok(vec![PUBLIC.to_owned()]);
        }
        let mut modes = BTreeSet::new();
        for (name, _) in requirements.iter().flat_map(|requirement| &requirement.0) {
            modes.extend(self.modes_of_scheme(name)?);
        }
        Ok(in_order(&modes))
    }

    fn modes_of_scheme(&self, name: &str) -> Result<Vec<String>, String> {
        if let Some(SecurityScheme { mode: Some(Words(words)), .. }) = self.document.security_scheme(name) {
            let modes = given_modes(words, "x-keyward-mode")?;
            let is_public = modes.iter().any(|mode| mode == PUBLIC);
            return if is_public {
                Err(format!("security scheme {name}: x-keyward-mode can't be public"))
            } else {
                Ok(modes)
            };
        }
        let named = MODES.into_iter().find(|mode| name.eq_ignore_ascii_case(mode));
        Ok(named.map_or_else(all_modes, |mode| vec![mode.to_owned()]))
    }

    fn finish(mut self) -> Imported {
        for (tag, operations) in self.derived {
            let resources: BTreeSet<&String> = operations.iter().map(|(resource, _)| resource).collect();
            if resources.len() > 1 {
                let operations = operations.into_iter().map(|(_, operation)| operation).collect();
                self.imported.collisions.push(Collision { tag, operations });
            }
        }
        self.imported
    }
}

fn shown_base(base: &str) -> &str {
    if base.is_empty() { "/" } else { base }
}

fn all_modes() -> Vec<String> {
    MODES.map(str::to_owned).to_vec()
}

fn in_order(modes: &BTreeSet<String>) -> Vec<String> {
    MODES.into_iter().filter(|mode| modes.contains(*mode)).map(str::to_owned).collect()
}

fn given_tags(words: &[String]) -> Result<Vec<String>, String> {
    let mut tags: Vec<String> = Vec::new();
    for word in words {
        let tag = Tag::parse(word).map_err(|error| format!("x-keyward-tags: {word:?}: {error}"))?;
        if !tags.iter().any(|before| before == tag.as_str()) {
            tags.push(tag.as_str().to_owned());
        }
    }
    if (1..=TAGS_MAX).contains(&tags.len()) {
        Ok(tags)
    } else {
        Err(format!("x-keyward-tags: {} tags are given; an endpoint has 1 to {TAGS_MAX}", tags.len()))
    }
}

fn given_modes(words: &[String], field: &str) -> Result<Vec<String>, String> {
    let modes: BTreeSet<String> = words.iter().cloned().collect();
    if modes.iter().map(String::as_str).eq([PUBLIC]) {
        return Ok(vec![PUBLIC.to_owned()]);
    }
    let known = in_order(&modes);
    if known.is_empty() || known.len() != modes.len() {
        return Err(format!("{field}: give key, token or session, or public alone, not {:?}", words.join(", ")));
    }
    Ok(known)
}

#[cfg(test)]
#[allow(clippy::panic, reason = "a test may panic")]
mod tests;
