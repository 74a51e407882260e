//! Text of others, made safe to show: it must not move a terminal's cursor, colour what follows, or begin a line of its own
//! in a log.

use std::borrow::Cow;

/// Characters that change how a terminal shows what follows, though they are no control characters: they turn the
/// direction of writing, break the line, or are invisible.
const MISLEADING: [std::ops::RangeInclusive<char>; 6] = [
    '\u{61c}'..='\u{61c}',
    '\u{200b}'..='\u{200f}',
    '\u{2028}'..='\u{202e}',
    '\u{2060}'..='\u{206f}',
    '\u{feff}'..='\u{feff}',
    '\u{fff9}'..='\u{fffb}',
];

fn is_unsafe(c: char) -> bool {
    c.is_control() || MISLEADING.iter().any(|range| range.contains(&c))
}

/// `text` with every such character written out, as `\n` or `\u{1b}`.
#[must_use]
pub fn escape(text: &str) -> Cow<'_, str> {
    if !text.contains(is_unsafe) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        match c {
            '\n' | '\r' | '\t' => escaped.extend(c.escape_default()),
            _ if is_unsafe(c) => escaped.extend(c.escape_unicode()),
            _ => escaped.push(c),
        }
    }
    Cow::Owned(escaped)
}
