//! A line of CSV into a patch, as its header says.

use csv_core::{ReadRecordResult, Reader};
use keyward_proto::admin::{CredentialPatch, Secret, SetText};
use keyward_proto::query::Mode;
use zeroize::Zeroizing;

use super::super::file::is_field_like;
use super::super::times;
use super::lines::LINE_BYTES_MAX;

/// Cells of a line; more than there are columns.
const CELLS_MAX: usize = 32;

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Column {
    Id,
    Label,
    Code,
    Hash,
    Agent,
    Superuser,
    DefaultAgent,
    Tags,
    Enabled,
    Revoked,
    NotBefore,
    ExpiresAt,
    AllowIp,
    Rate,
}

const COLUMNS: [(&str, Column); 14] = [
    ("id", Column::Id),
    ("label", Column::Label),
    ("code", Column::Code),
    ("hash", Column::Hash),
    ("agent", Column::Agent),
    ("superuser", Column::Superuser),
    ("default_agent", Column::DefaultAgent),
    ("tags", Column::Tags),
    ("enabled", Column::Enabled),
    ("revoked", Column::Revoked),
    ("not_before", Column::NotBefore),
    ("expires_at", Column::ExpiresAt),
    ("allow_ip", Column::AllowIp),
    ("rate", Column::Rate),
];

/// The columns of a file.
pub(super) struct Header {
    columns: Vec<(&'static str, Column)>,
    cells: Cells,
}

impl Header {
    /// Reads the header line.
    pub(super) fn parse(line: &[u8]) -> Result<Self, String> {
        if line.trim_ascii().is_empty() {
            return Err(format!("no header: {}", wanted_header()));
        }
        let mut cells = Cells::new();
        let mut columns: Vec<(&'static str, Column)> = Vec::new();
        for cell in cells.split(line)? {
            let name = cell?.trim();
            let Some(&column) = COLUMNS.iter().find(|(known, _)| *known == name) else {
                // Without a header the first line is a key's.
                let shown = if is_field_like(name) { format!("`{name}` is no column") } else { "no header".into() };
                return Err(format!("{shown}: {}", wanted_header()));
            };
            if columns.contains(&column) {
                return Err(format!("the column `{name}` stands there twice"));
            }
            columns.push(column);
        }
        if !columns.iter().any(|(_, column)| *column == Column::Id) {
            return Err("there is no column `id`: keys keep their ids, so each line must have one".to_owned());
        }
        Ok(Self { columns, cells })
    }

    /// Reads a key's line.
    pub(super) fn patch(&mut self, line: &[u8]) -> Result<CredentialPatch, String> {
        let mut patch = CredentialPatch::new(Mode::Key, None);
        let (columns, mut filled) = (&self.columns, 0);
        for cell in self.cells.split(line)? {
            let cell = cell?;
            let Some((name, column)) = columns.get(filled) else {
                return Err(format!("it has more cells than the header, which names {}", columns.len()));
            };
            if !cell.is_empty() {
                put(&mut patch, *column, cell).map_err(|why| format!("{name}: {why}"))?;
            }
            filled += 1;
        }
        if filled < columns.len() {
            return Err(format!("it has {filled} cells, the header names {}", columns.len()));
        }
        Ok(patch)
    }
}

fn wanted_header() -> String {
    let known = COLUMNS.map(|(name, _)| name).join(", ");
    format!("the first line names the columns, of {known}, separated by commas")
}

/// No message shows the cell: where columns slipped it may be a code.
fn put(patch: &mut CredentialPatch, column: Column, cell: &str) -> Result<(), String> {
    match column {
        Column::Id => patch.id = Some(number(cell)?),
        Column::Label => patch.label = Some(cell.to_owned()),
        Column::Code => patch.code = Some(Secret::new(cell.as_bytes().to_vec())),
        Column::Hash => patch.hash = Some(Secret::new(cell.as_bytes().to_vec())),
        Column::Agent => patch.agent = Some(number(cell)?),
        Column::Superuser => patch.superuser = Some(switch(cell)?),
        Column::DefaultAgent => patch.default_agent = Some(cleared(cell, "none").map(number).transpose()?),
        Column::Tags => patch.tags = Some(SetText::Text(cell.to_owned())),
        Column::Enabled => patch.enabled = Some(switch(cell)?),
        Column::Revoked => patch.revoked = Some(switch(cell)?),
        Column::NotBefore => patch.not_before = Some(cleared(cell, "never").map(time).transpose()?),
        Column::ExpiresAt => patch.expires_at = Some(cleared(cell, "never").map(time).transpose()?),
        Column::AllowIp => {
            let blocks = |list: &str| list.split([',', ' ']).filter(|b| !b.is_empty()).map(str::to_owned).collect();
            patch.allow_ip = Some(cleared(cell, "any").map(blocks));
        }
        Column::Rate => patch.rate = Some(cleared(cell, "none").map(str::to_owned)),
    }
    Ok(())
}

/// `None` for the word that clears the field.
fn cleared<'c>(cell: &'c str, word: &str) -> Option<&'c str> {
    (cell != word).then_some(cell)
}

fn number(cell: &str) -> Result<u64, String> {
    let digits = cell.bytes().all(|byte| byte.is_ascii_digit());
    let number = if digits { cell.parse().ok() } else { None };
    number.ok_or_else(|| "it is no whole number".to_owned())
}

fn switch(cell: &str) -> Result<bool, String> {
    match cell {
        "true" | "1" => Ok(true),
        "false" | "0" => Ok(false),
        _ => Err("it is neither true nor false".to_owned()),
    }
}

fn time(cell: &str) -> Result<u64, String> {
    times::parse_time(cell, times::now())
        .map_err(|_| "it is no time: write unix seconds, RFC 3339 with an offset, or never".to_owned())
}

/// The cells of one line. The buffer is wiped: it holds codes.
struct Cells {
    reader: Reader,
    text: Zeroizing<Vec<u8>>,
    ends: [usize; CELLS_MAX],
}

impl Cells {
    fn new() -> Self {
        let text = Zeroizing::new(vec![0; LINE_BYTES_MAX + 1]);
        Self { reader: Reader::new(), text, ends: [0; CELLS_MAX] }
    }

    fn split(&mut self, line: &[u8]) -> Result<impl Iterator<Item = Result<&str, String>>, String> {
        self.reader.reset();
        let (result, read, written, mut count) = self.reader.read_record(line, &mut self.text, &mut self.ends);
        let (result, more) = match result {
            // The line's end is what ends the record, unless it lies within a quoted cell.
            ReadRecordResult::InputEmpty if read == line.len() => {
                let (text, ends) = (&mut self.text[written..], &mut self.ends[count..]);
                let (result, _, _, more) = self.reader.read_record(b"\n", text, ends);
                (result, more)
            }
            ReadRecordResult::InputEmpty
            | ReadRecordResult::OutputFull
            | ReadRecordResult::OutputEndsFull
            | ReadRecordResult::Record
            | ReadRecordResult::End => (result, 0),
        };
        count += more;
        match result {
            ReadRecordResult::Record => {}
            ReadRecordResult::InputEmpty | ReadRecordResult::End => {
                return Err("a quoted cell does not end on its line".to_owned());
            }
            ReadRecordResult::OutputFull | ReadRecordResult::OutputEndsFull => {
                return Err("it has more cells than there are columns".to_owned());
            }
        }
        let text = &self.text;
        let mut start = 0;
        Ok(self.ends[..count].iter().map(move |&end| {
            let cell = &text[start..end];
            start = end;
            str::from_utf8(cell).map_err(|_| "it is not UTF-8".to_owned())
        }))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    fn patch(header: &str, line: &[u8]) -> Result<CredentialPatch, String> {
        Header::parse(header.as_bytes())?.patch(line)
    }

    #[test]
    fn every_column_is_read() {
        let names = COLUMNS.map(|(name, _)| name).join(",");
        let line = "7,\"a \"\"b\"\", c\",AAAAAAAA,sha256:00,4,false,none,\"tickets.*, -*.delete\",1,0,never,1893456000,\
                    \"10.0.0.0/8, ::1\",100/s";
        let wanted = CredentialPatch {
            label: Some("a \"b\", c".into()),
            code: Some(Secret::new(b"AAAAAAAA".to_vec())),
            hash: Some(Secret::new(b"sha256:00".to_vec())),
            agent: Some(4),
            superuser: Some(false),
            default_agent: Some(None),
            tags: Some(SetText::Text("tickets.*, -*.delete".into())),
            enabled: Some(true),
            revoked: Some(false),
            not_before: Some(None),
            expires_at: Some(Some(1_893_456_000)),
            allow_ip: Some(Some(vec!["10.0.0.0/8".into(), "::1".into()])),
            rate: Some(Some("100/s".into())),
            ..CredentialPatch::new(Mode::Key, Some(7))
        };
        assert!(patch(&names, line.as_bytes()) == Ok(wanted));
        let nothing = CredentialPatch::new(Mode::Key, Some(7));
        assert!(patch(&names, b"7,,,,,,,,,,,,,") == Ok(nothing), "an empty cell gives nothing");
        assert!(patch("rate, id ", b"none,8").unwrap().rate == Some(None), "names may have blanks around");
    }

    #[test]
    fn what_is_wrong_is_said_without_the_cell() {
        let table: [(&str, &[u8], &str); 14] = [
            ("id,foo", b"", "`foo` is no column"),
            ("2,SECRETSECRET", b"", "no header: the first line names"),
            ("id;code", b"", "no header"),
            ("", b"", "no header"),
            ("code", b"", "no column `id`"),
            ("id,id", b"", "`id` stands there twice"),
            ("id,code", b"1", "1 cells, the header names 2"),
            ("id,code", b"1,SECRETSECRET,x", "more cells than the header"),
            ("id,code", b"SECRETSECRET,1", "id: it is no whole number"),
            ("id,expires_at", b"1,SECRETSECRET", "expires_at: it is no time"),
            ("id,enabled", b"1,SECRETSECRET", "enabled: it is neither"),
            ("id,code", b"1,\"SECRETSECRET", "a quoted cell does not end"),
            ("id,label", b"1,SECRETSECRET\xff", "not UTF-8"),
            ("id,agent", b"1,-4", "agent: it is no whole number"),
        ];
        for (header, line, why) in table {
            let said = patch(header, line).map(drop).unwrap_err();
            assert!(said.contains(why) && !said.contains("SECRET"), "{header}: {said}");
        }
        let wide = format!("1{}", ",x".repeat(CELLS_MAX));
        assert!(patch("id", wide.as_bytes()).map(drop).unwrap_err().contains("more cells"));
    }
}
