//! Secrets and lists as they are typed.

use std::borrow::Cow;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt as _;

use keyward_proto::admin::SetText;
use zeroize::Zeroizing;

use super::error::CliError;

/// No header that a web server passes on is longer; a longer line is a file given by mistake.
const SECRET_LINE_BYTES_MAX: usize = 64 * 1024;
/// A credential fits, so that growing leaves no copy of it behind.
const SECRET_LINE_CAPACITY: usize = 1024;

/// Characters of a code that Keyward makes.
const MADE_CODE_CHARS: usize = 25;
/// Put where a code may have been.
pub(super) const HIDDEN: &str = "(hidden: it may be a credential)";

/// `text` without what looks like a code that Keyward made. Such a one in the wrong place of a file or command would
/// otherwise be repeated by the message that refuses it.
pub(super) fn without_codes(text: &str) -> Cow<'_, str> {
    let is_of_code = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit();
    if text.split(|c| !is_of_code(c)).all(|run| run.len() < MADE_CODE_CHARS) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while !rest.is_empty() {
        let (run, behind) = rest.split_at(rest.find(|c| !is_of_code(c)).unwrap_or(rest.len()));
        shown.push_str(if run.len() < MADE_CODE_CHARS { run } else { HIDDEN });
        let (other, next) = behind.split_at(behind.find(is_of_code).unwrap_or(behind.len()));
        shown.push_str(other);
        rest = next;
    }
    Cow::Owned(shown)
}

/// What an option for a credential is for standard input.
const STDIN: &str = "-";

/// A credential as it is typed, or behind a dash the first line of standard input.
pub(super) fn credential(typed: &OsStr) -> Result<Zeroizing<Vec<u8>>, CliError> {
    if typed == STDIN { secret_line() } else { Ok(Zeroizing::new(typed.as_bytes().to_vec())) }
}

/// The first line of standard input, without its newline. Read past the buffer of `Stdin`, which is never wiped.
pub(super) fn secret_line() -> Result<Zeroizing<Vec<u8>>, CliError> {
    let unreadable =
        |e: io::Error| CliError::Input(format!("secret not read: standard input: {e}; write it as one line"));
    let input = io::stdin().as_fd().try_clone_to_owned().map_err(unreadable)?;
    let line = first_line(File::from(input)).map_err(unreadable)?;
    if line.len() > SECRET_LINE_BYTES_MAX {
        return Err(CliError::Input(format!(
            "secret not read: the line on standard input is over {SECRET_LINE_BYTES_MAX} bytes; is it the right file?"
        )));
    }
    Ok(line)
}

/// Byte by byte: what follows the line is left for whoever reads on.
fn first_line(mut input: impl Read) -> io::Result<Zeroizing<Vec<u8>>> {
    let mut line = Zeroizing::new(Vec::with_capacity(SECRET_LINE_CAPACITY));
    let mut byte = [0];
    while line.len() <= SECRET_LINE_BYTES_MAX {
        match input.read(&mut byte) {
            Ok(0) => break,
            Ok(_) if byte == *b"\n" => break,
            Ok(_) => line.extend_from_slice(&byte),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(line)
}

/// A SET: a JSON array of strings when it begins as one, else text. Judged by whoever gets it.
pub(super) fn set(text: &str) -> Result<SetText, CliError> {
    if !text.trim_start().starts_with('[') {
        return Ok(SetText::Text(text.to_owned()));
    }
    serde_json::from_str(text).map(SetText::Items).map_err(|e| {
        CliError::Input(format!("tag set refused: no JSON array of strings: {e}; write [\"a.*\", \"-a.b\"]"))
    })
}

/// Attributes as `k=v`; `none` alone for none at all, nothing for nothing said.
pub(super) fn attributes(words: &[String]) -> Result<Option<Vec<(String, String)>>, CliError> {
    match words {
        [] => return Ok(None),
        [word] if word == "none" => return Ok(Some(Vec::new())),
        _ => {}
    }
    let mut attributes: Vec<(String, String)> = Vec::with_capacity(words.len());
    for word in words {
        let (name, value) = word.split_once('=').ok_or_else(|| {
            CliError::Input(format!("attribute refused: `{word}` has no `=`; write --attribute name=value"))
        })?;
        if attributes.iter().any(|(before, _)| before == name) {
            return Err(CliError::Input(format!("attribute refused: `{name}` is given twice; give it once")));
        }
        attributes.push((name.to_owned(), value.to_owned()));
    }
    Ok(Some(attributes))
}

/// Blocks and addresses; `any` alone clears the list, nothing leaves it.
pub(super) fn allow_ip(words: Vec<String>) -> Result<Option<Option<Vec<String>>>, CliError> {
    if words.is_empty() {
        return Ok(None);
    }
    if words == ["any"] {
        return Ok(Some(None));
    }
    if words.iter().any(|word| word == "any") {
        return Err(CliError::Input("--allow-ip refused: `any` with others; give `any` alone, or blocks".to_owned()));
    }
    Ok(Some(Some(words)))
}

/// A rate as typed, which the daemon judges; `none` clears it.
pub(super) fn rate(word: String) -> Option<String> {
    Some(word).filter(|word| word != "none")
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_the_first_line_without_its_newline() {
        for (input, line) in [
            (&b""[..], &b""[..]),
            (b"\n", b""),
            (b"key 2:AAAAAAAA", b"key 2:AAAAAAAA"),
            (b"key 2:AAAAAAAA\n", b"key 2:AAAAAAAA"),
            (b" key 2:AAAAAAAA \r\nmore\n", b" key 2:AAAAAAAA \r"),
            (b"\xff\0\n", b"\xff\0"),
        ] {
            assert_eq!(*first_line(input).unwrap(), line);
        }
    }

    #[test]
    fn an_endless_line_is_not_read_to_its_end() {
        assert_eq!(first_line(io::repeat(b'a')).unwrap().len(), SECRET_LINE_BYTES_MAX + 1);
    }

    #[test]
    fn what_looks_like_a_made_code_is_hidden_and_nothing_else() {
        for (text, shown) in [
            ("", ""),
            ("plain", "plain"),
            ("18446744073709551615 is no id", "18446744073709551615 is no id"),
            ("YWK2PGCS8CNW62SR8TBTBKWM", "YWK2PGCS8CNW62SR8TBTBKWM"),
            ("YWK2PGCS8CNW62SR8TBTBKWMY", HIDDEN),
            ("é2:YWK2PGCS8CNW62SR8TBTBKWMY, x", "é2:(hidden: it may be a credential), x"),
            ("aYWK2PGCS8CNW62SR8TBTBKWMYY", "a(hidden: it may be a credential)"),
        ] {
            assert_eq!(without_codes(text), shown);
        }
    }

    #[test]
    fn a_set_is_an_array_only_when_it_begins_as_one() {
        for (text, wanted) in [
            ("-*.delete, *", Some(SetText::Text("-*.delete, *".into()))),
            (" a ", Some(SetText::Text(" a ".into()))),
            ("", Some(SetText::Text(String::new()))),
            (" [\"a\", \"-b\"] ", Some(SetText::Items(vec!["a".into(), "-b".into()]))),
            ("[]", Some(SetText::Items(vec![]))),
            ("[", None),
            ("[a]", None),
            ("[\"a\", 1]", None),
            ("[\"a\"] b", None),
        ] {
            assert_eq!(set(text).ok(), wanted, "{text}");
        }
    }

    #[test]
    fn attributes_are_split_at_the_first_equals_sign() {
        let read = |words: &[&str]| attributes(&words.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>()).ok();
        assert_eq!(read(&[]), Some(None));
        assert_eq!(read(&["none"]), Some(Some(vec![])));
        assert_eq!(read(&["a=b=c", "d="]), Some(Some(vec![("a".into(), "b=c".into()), ("d".into(), String::new())])));
        assert_eq!(read(&["a"]), None);
        assert_eq!(read(&["a=1", "none"]), None);
        assert_eq!(read(&["a=1", "a=2"]), None);
    }

    #[test]
    fn any_stands_alone() {
        let read = |words: &[&str]| allow_ip(words.iter().map(|w| (*w).to_owned()).collect()).ok();
        assert_eq!(read(&[]), Some(None));
        assert_eq!(read(&["any"]), Some(Some(None)));
        assert_eq!(read(&["::1"]), Some(Some(Some(vec!["::1".into()]))));
        assert_eq!(read(&["any", "::1"]), None);
    }
}
