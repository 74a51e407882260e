//! The path template of an endpoint.

use std::error::Error;
use std::fmt;

use super::PATH_BYTES_MAX;
use super::path::{AmbiguousPath, judge_segments};

/// Most segments of a template. The router descends one call per segment; no real interface comes near.
pub const TEMPLATE_SEGMENTS_MAX: usize = 128;

/// A path template as in OpenAPI, `/api/v2/tickets/{id}`: written decoded, held to the rules for paths.
///
/// - A segment is a literal, or one `{name}` alone or with a fixed prefix and/or suffix (`all-{name}.csv`), or, the last
///   one only and alone, `{name...}`. A brace is never literal.
/// - A name consists of letters, digits, `_`, `-`, `.` and `~`, and does not end in a dot: `{id..}` is a mistyped
///   `{id...}`. Names may repeat, they mean nothing here.
/// - `/tickets/` and `/tickets` are two paths; `/` is one empty segment.
///
/// Equality is by what was written; two templates that match the same paths have the same [`shape`](Template::shape).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Template {
    written: Box<str>,
    shape: Box<str>,
}

/// One segment of a template.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Segment<'a> {
    /// Exactly this.
    Literal(&'a str),
    /// At least one byte between the two.
    Parameter { prefix: &'a str, suffix: &'a str },
    /// All that is left, the first segment of it not empty.
    Rest,
}

impl Template {
    /// Takes a template as written.
    pub fn parse(text: &str) -> Result<Template, TemplateError> {
        if text.len() > PATH_BYTES_MAX {
            return Err(TemplateError::TooLong);
        }
        if text.contains(['?', '#']) {
            return Err(TemplateError::QueryOrFragment);
        }
        let behind = text.strip_prefix('/').ok_or(TemplateError::Ambiguous(AmbiguousPath::NoLeadingSlash))?;
        judge_segments(behind).map_err(TemplateError::Ambiguous)?;
        if behind.split('/').count() > TEMPLATE_SEGMENTS_MAX {
            return Err(TemplateError::TooManySegments);
        }
        let mut shape = String::with_capacity(text.len());
        let mut segments = behind.split('/').peekable();
        while let Some(segment) = segments.next() {
            shape.push('/');
            push_shape(&mut shape, segment, segments.peek().is_none())?;
        }
        Ok(Template { written: text.into(), shape: shape.into() })
    }

    /// The template as written.
    pub fn as_str(&self) -> &str {
        &self.written
    }

    /// The template with its names blanked, `/tickets/{}` and `/blobs/{...}`: what tells endpoints of one method apart.
    pub fn shape(&self) -> &str {
        &self.shape
    }

    pub(super) fn segments(&self) -> impl Iterator<Item = Segment<'_>> {
        // The shape begins with `/`, so what lies before the first one is no segment.
        self.shape.split('/').skip(1).map(|segment| match segment.split_once("{}") {
            Some((prefix, suffix)) => Segment::Parameter { prefix, suffix },
            None if segment == "{...}" => Segment::Rest,
            None => Segment::Literal(segment),
        })
    }
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.written)
    }
}

/// Judges the braces of one segment and appends it with its name blanked.
fn push_shape(shape: &mut String, segment: &str, last: bool) -> Result<(), TemplateError> {
    let Some((prefix, behind)) = segment.split_once('{') else {
        if segment.contains('}') {
            return Err(TemplateError::UnbalancedBrace);
        }
        shape.push_str(segment);
        return Ok(());
    };
    let (name, suffix) = behind.split_once('}').ok_or(TemplateError::UnbalancedBrace)?;
    if prefix.contains('}') || name.contains('{') {
        return Err(TemplateError::UnbalancedBrace);
    }
    judge_suffix(suffix)?;
    let Some(rest_name) = name.strip_suffix("...") else {
        judge_name(name)?;
        shape.extend([prefix, "{}", suffix]);
        return Ok(());
    };
    judge_name(rest_name)?;
    if !prefix.is_empty() || !suffix.is_empty() {
        return Err(TemplateError::RestNotAlone);
    }
    if !last {
        return Err(TemplateError::RestNotLast);
    }
    shape.push_str("{...}");
    Ok(())
}

/// What follows a parameter is fixed text; a whole second parameter there gets a clearer refusal than a stray brace.
fn judge_suffix(suffix: &str) -> Result<(), TemplateError> {
    match suffix.find(['{', '}']) {
        None => Ok(()),
        Some(at) if suffix[at..].starts_with('{') && suffix[at..].contains('}') => Err(TemplateError::TwoParameters),
        Some(_) => Err(TemplateError::UnbalancedBrace),
    }
}

fn judge_name(name: &str) -> Result<(), TemplateError> {
    if name.is_empty() {
        return Err(TemplateError::EmptyName);
    }
    if !name.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '~')) {
        return Err(TemplateError::BadName);
    }
    if name.ends_with('.') {
        return Err(TemplateError::NameEndsInDot);
    }
    Ok(())
}

/// Why a text is no path template.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TemplateError {
    /// Longer than [`PATH_BYTES_MAX`].
    TooLong,
    /// More than [`TEMPLATE_SEGMENTS_MAX`] segments.
    TooManySegments,
    /// A `?` or `#`.
    QueryOrFragment,
    /// Every path that it could match is ambiguous, by this rule.
    Ambiguous(AmbiguousPath),
    /// A `{` without its `}`, or the other way round.
    UnbalancedBrace,
    /// Two parameters in one segment.
    TwoParameters,
    /// `{}` or `{...}`.
    EmptyName,
    /// A name with something else than letters, digits, `_`, `-`, `.` and `~`.
    BadName,
    /// `{id..}`, `{id.}`, `{id....}`.
    NameEndsInDot,
    /// `{name...}` before the last segment.
    RestNotLast,
    /// `{name...}` with a prefix or suffix.
    RestNotAlone,
}

impl fmt::Display for TemplateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let line = match self {
            TemplateError::TooLong => return write!(f, "the path template is longer than {PATH_BYTES_MAX} bytes"),
            TemplateError::TooManySegments => {
                return write!(f, "the path template has more than {TEMPLATE_SEGMENTS_MAX} segments");
            }
            TemplateError::Ambiguous(AmbiguousPath::StillEscaped) => {
                "the path template holds an escape (`%` and two hex digits); templates are written decoded"
            }
            TemplateError::Ambiguous(rule) => return write!(f, "no request could match the path template: {rule}"),
            TemplateError::QueryOrFragment => {
                "the path template holds `?` or `#`; the query string never matters, leave it out"
            }
            TemplateError::UnbalancedBrace => {
                "a brace in the path template has no partner in its segment; braces only write `{name}` or `{name...}`"
            }
            TemplateError::TwoParameters => "a segment of the path template has two parameters; it may have one",
            TemplateError::EmptyName => "a parameter of the path template has no name; write it as in `{id}`",
            TemplateError::BadName => {
                "a parameter name in the path template has something else than letters, digits, `_`, `-`, `.` and `~`"
            }
            TemplateError::NameEndsInDot => {
                "a parameter name in the path template ends in a dot; `{name...}` has exactly three behind its name"
            }
            TemplateError::RestNotLast => {
                "`{name...}` takes all that is left of the path; it must be the template's last segment"
            }
            TemplateError::RestNotAlone => "`{name...}` must be its whole segment; it takes no prefix and no suffix",
        };
        f.write_str(line)
    }
}

impl Error for TemplateError {}

#[cfg(test)]
mod tests {
    use super::TemplateError::*;
    use super::*;

    #[test]
    fn a_template_keeps_what_was_written_and_blanks_the_names_in_its_shape() {
        let table = [
            ("/", "/"),
            ("/a", "/a"),
            ("/a/", "/a/"),
            ("/api/v2/tickets/{id}", "/api/v2/tickets/{}"),
            ("/tickets/{ticket_id}/messages/{id}", "/tickets/{}/messages/{}"),
            ("/{a}/{a}", "/{}/{}"),
            ("/{id}/", "/{}/"),
            ("/export/{name}.csv", "/export/{}.csv"),
            ("/export/all-{name}", "/export/all-{}"),
            ("/v{major.minor}-x", "/v{}-x"),
            ("/{blob-id~1}", "/{}"),
            ("/{größe}", "/{}"),
            ("/{.hidden}", "/{}"),
            ("/blobs/{path...}", "/blobs/{...}"),
            ("/{rest...}", "/{...}"),
            ("/größe/100%", "/größe/100%"),
            ("/%{x}", "/%{}"),
            ("/...", "/..."),
            ("/.{ext}", "/.{}"),
        ];
        for (text, shape) in table {
            let template = Template::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!((template.as_str(), template.shape()), (text, shape));
            assert_eq!(template.to_string(), text);
        }
    }

    #[test]
    fn a_template_that_is_none_is_refused_with_its_reason() {
        let table = [
            ("", Ambiguous(AmbiguousPath::NoLeadingSlash)),
            ("a/b", Ambiguous(AmbiguousPath::NoLeadingSlash)),
            ("{rest...}", Ambiguous(AmbiguousPath::NoLeadingSlash)),
            ("//", Ambiguous(AmbiguousPath::EmptySegment)),
            ("/a//b", Ambiguous(AmbiguousPath::EmptySegment)),
            ("/a/../b", Ambiguous(AmbiguousPath::DotSegment)),
            ("/.", Ambiguous(AmbiguousPath::DotSegment)),
            ("/a\nb", Ambiguous(AmbiguousPath::ControlCharacter)),
            ("/a\u{85}", Ambiguous(AmbiguousPath::ControlCharacter)),
            ("/a\\b", Ambiguous(AmbiguousPath::Backslash)),
            ("/a;b", Ambiguous(AmbiguousPath::Semicolon)),
            ("/a%20b", Ambiguous(AmbiguousPath::StillEscaped)),
            ("/a%2Fb", Ambiguous(AmbiguousPath::StillEscaped)),
            ("/a?b", QueryOrFragment),
            ("/a#b", QueryOrFragment),
            ("/{id?}", QueryOrFragment),
            ("/{id", UnbalancedBrace),
            ("/id}", UnbalancedBrace),
            ("/}{", UnbalancedBrace),
            ("/}{id}", UnbalancedBrace),
            ("/{{id}}", UnbalancedBrace),
            ("/{id}}", UnbalancedBrace),
            ("/{id}{", UnbalancedBrace),
            ("/{a/b}", UnbalancedBrace),
            ("/{a}{b}", TwoParameters),
            ("/{a}-{b}", TwoParameters),
            ("/{a}{b...}", TwoParameters),
            ("/{}", EmptyName),
            ("/x-{}", EmptyName),
            ("/{...}", EmptyName),
            ("/{a b}", BadName),
            ("/{id:int}", BadName),
            ("/{*rest}", BadName),
            ("/{id.}", NameEndsInDot),
            ("/{id..}", NameEndsInDot),
            ("/{id....}", NameEndsInDot),
            ("/{....}", NameEndsInDot),
            ("/{rest...}/a", RestNotLast),
            ("/{rest...}/", RestNotLast),
            ("/{a...}/{b...}", RestNotLast),
            ("/x-{rest...}", RestNotAlone),
            ("/{rest...}.csv", RestNotAlone),
        ];
        for (text, expected) in table {
            assert_eq!(Template::parse(text), Err(expected), "{text:?}");
        }
    }

    #[test]
    fn a_template_ends_at_its_bounds() {
        assert!(Template::parse(&format!("/{}", "a".repeat(PATH_BYTES_MAX - 1))).is_ok());
        assert_eq!(Template::parse(&format!("/{}", "a".repeat(PATH_BYTES_MAX))), Err(TooLong));
        assert!(Template::parse(&"/{a}".repeat(TEMPLATE_SEGMENTS_MAX)).is_ok());
        assert_eq!(Template::parse(&"/{a}".repeat(TEMPLATE_SEGMENTS_MAX + 1)), Err(TooManySegments));
    }
}
