//! Reads the message tables of `PROTOCOL.md` and, by them alone, the bytes of a frame's body: if the text were wrong, no
//! golden frame would come out even.

#![allow(dead_code, clippy::panic, reason = "each test target uses its part; a text that can't be read fails it")]

use std::collections::{BTreeMap, BTreeSet};

#[derive(Debug)]
enum Shape {
    /// Type of each field, in order.
    Struct(Vec<String>),
    /// Types of each variant's fields; the place is the variant number.
    Enum(Vec<Vec<String>>),
}

pub(crate) struct Schema {
    shapes: BTreeMap<String, Shape>,
    /// Type number to name.
    messages: BTreeMap<u16, String>,
}

/// What stands where in a body.
#[derive(Default)]
pub(crate) struct Walk {
    /// Offsets of lengths (8 bytes).
    pub lengths: Vec<usize>,
    /// Offsets of option tags and booleans (1 byte).
    pub switches: Vec<usize>,
    /// Offsets of variant numbers (4 bytes).
    pub variants: Vec<usize>,
    /// Which variants and which forms of options were met, as `Target 0`, `Asker.1 absent`.
    pub choices: BTreeSet<String>,
    at: usize,
}

impl Schema {
    /// Every `### Name (0x…)` or `### Name` of the text with the first table below it.
    pub(crate) fn read(text: &str) -> Self {
        let mut schema = Self { shapes: BTreeMap::new(), messages: BTreeMap::new() };
        for section in text.split("\n### ").skip(1) {
            let (heading, rest) = section.split_once('\n').unwrap_or((section, ""));
            let (name, numbers) = heading.split_once(" (").unwrap_or((heading, ""));
            for number in numbers.split("0x").skip(1) {
                let number = u16::from_str_radix(&number[..4], 16).unwrap();
                assert!(schema.messages.insert(number, name.to_owned()).is_none(), "{number:#06x} stands twice");
            }
            let body = rest.split("\n#").next().unwrap_or_default();
            assert!(schema.shapes.insert(name.to_owned(), read_shape(body)).is_none(), "{name} stands twice");
        }
        schema
    }

    pub(crate) fn message(&self, kind: u16) -> &str {
        self.messages.get(&kind).unwrap_or_else(|| panic!("the text has no section for type {kind:#06x}"))
    }

    pub(crate) fn walk(&self, kind: u16, body: &[u8]) -> Result<Walk, String> {
        let mut walk = Walk::default();
        self.value(self.message(kind), "", body, &mut walk)?;
        if walk.at == body.len() { Ok(walk) } else { Err(format!("{} bytes are left", body.len() - walk.at)) }
    }

    /// Everything that [`Walk::choices`] can hold.
    pub(crate) fn choices(&self) -> BTreeSet<String> {
        let mut choices = BTreeSet::new();
        for (name, shape) in &self.shapes {
            match shape {
                Shape::Enum(variants) => choices.extend((0..variants.len()).map(|number| format!("{name} {number}"))),
                Shape::Struct(fields) => {
                    for (place, field) in fields.iter().enumerate() {
                        let mut path = format!("{name}.{place}");
                        let mut field = field.as_str();
                        while let Some(inner) = inside("option", field) {
                            choices.extend([format!("{path} absent"), format!("{path} given")]);
                            path.push('?');
                            field = inner;
                        }
                    }
                }
            }
        }
        choices
    }

    fn value(&self, kind: &str, path: &str, body: &[u8], walk: &mut Walk) -> Result<(), String> {
        if let Some(inner) = inside("option", kind) {
            let given = take_switch(body, walk)?;
            walk.choices.insert(format!("{path} {}", if given { "given" } else { "absent" }));
            return if given { self.value(inner, &format!("{path}?"), body, walk) } else { Ok(()) };
        }
        if let Some(inner) = inside("list", kind) {
            return (0..take_length(body, walk)?).try_for_each(|_| self.value(inner, path, body, walk));
        }
        match kind {
            "u8" => take(body, walk, 1).map(drop),
            "u16" => take(body, walk, 2).map(drop),
            "u32" => take(body, walk, 4).map(drop),
            "u64" => take(body, walk, 8).map(drop),
            "bool" => take_switch(body, walk).map(drop),
            "bytes" | "text" => {
                let length = take_length(body, walk)?;
                take(body, walk, length).map(drop)
            }
            name => self.named(name, body, walk),
        }
    }

    fn named(&self, name: &str, body: &[u8], walk: &mut Walk) -> Result<(), String> {
        let fields = match self.shapes.get(name).ok_or_else(|| format!("the text does not define {name}"))? {
            Shape::Struct(fields) => fields,
            Shape::Enum(variants) => {
                walk.variants.push(walk.at);
                let number = usize::try_from(number(take(body, walk, 4)?)).unwrap();
                walk.choices.insert(format!("{name} {number}"));
                variants.get(number).ok_or_else(|| format!("{name} has no variant {number}"))?
            }
        };
        fields
            .iter()
            .enumerate()
            .try_for_each(|(place, field)| self.value(field, &format!("{name}.{place}"), body, walk))
    }
}

/// `T` of `name<T>`.
fn inside<'a>(name: &str, kind: &'a str) -> Option<&'a str> {
    kind.strip_prefix(name)?.strip_prefix('<')?.strip_suffix('>')
}

fn read_shape(body: &str) -> Shape {
    let mut rows = body.lines().skip_while(|line| !line.starts_with('|')).take_while(|line| line.starts_with('|'));
    let cell = |row: &str, place: usize| row.split('|').nth(place + 1).unwrap().trim().replace('`', "");
    let Some(head) = rows.next() else { return Shape::Struct(Vec::new()) };
    let rows = rows.skip(1);
    match cell(head, 0).as_str() {
        "field" => Shape::Struct(rows.map(|row| cell(row, 1)).collect()),
        "number" => Shape::Enum(
            rows.enumerate()
                .map(|(place, row)| {
                    assert_eq!(cell(row, 0), place.to_string(), "{row}");
                    let content = cell(row, 2);
                    let types = content.split(", ").map(|field| field.rsplit(": ").next().unwrap().to_owned());
                    types.filter(|kind| kind != "–").collect()
                })
                .collect(),
        ),
        other => panic!("a table that begins with {other}"),
    }
}

fn number(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

fn take<'a>(body: &'a [u8], walk: &mut Walk, count: usize) -> Result<&'a [u8], String> {
    let bytes = body[walk.at..].get(..count).ok_or_else(|| format!("{count} bytes wanted at {}", walk.at))?;
    walk.at += count;
    Ok(bytes)
}

fn take_switch(body: &[u8], walk: &mut Walk) -> Result<bool, String> {
    walk.switches.push(walk.at);
    match take(body, walk, 1)? {
        [0] => Ok(false),
        [1] => Ok(true),
        other => Err(format!("{other:?} is neither 0 nor 1 at {}", walk.at)),
    }
}

fn take_length(body: &[u8], walk: &mut Walk) -> Result<usize, String> {
    walk.lengths.push(walk.at);
    usize::try_from(number(take(body, walk, 8)?)).map_err(|e| e.to_string())
}
