//! Times as people write and read them; inside, a time is always unix seconds.

use crate::config::parse_duration;

/// The last second that every JSON reader can hold exactly (2^53 - 1), far beyond any expiry that is meant.
pub(super) const UNIX_SECONDS_MAX: u64 = (1 << 53) - 1;

const SECONDS_OF_DAY: u64 = 86_400;
const DAYS_OF_400_YEARS: u64 = 146_097;
const MONTHS: [u64; 12] = [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];

/// What a time may look like, for messages.
const FORMS: &str = "unix seconds, RFC 3339 with an offset (2030-01-31T09:00:00Z), or +30d from now";

/// Reads unix seconds, RFC 3339 with offset, or `+DURATION` from `now`.
///
/// # Errors
/// In words; the text itself is left to the caller, who shows it or not.
pub(super) fn parse_time(text: &str, now: u64) -> Result<u64, String> {
    let seconds = if let Some(duration) = text.strip_prefix('+') {
        let ahead = parse_duration(duration).map_err(|e| e.to_string())?;
        now.checked_add(ahead.as_secs())
    } else if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        text.parse().ok()
    } else {
        Some(parse_rfc3339(text).ok_or_else(|| format!("not a time; write {FORMS}"))?)
    };
    seconds.filter(|s| *s <= UNIX_SECONDS_MAX).ok_or_else(|| "too far ahead; write an earlier time".to_owned())
}

/// `2030-01-31T09:00:00+01:00` or with `Z`. A fraction of a second is cut off; a leap second, a time before 1970 and
/// anything RFC 3339 does not have are `None`.
fn parse_rfc3339(text: &str) -> Option<u64> {
    let mut cursor = Cursor(text.as_bytes());
    let year = cursor.number(4, 1970..=9999)?;
    cursor.literal(b'-')?;
    let month = cursor.number(2, 1..=12)?;
    cursor.literal(b'-')?;
    let day = cursor.number(2, 1..=days_of_month(year, month))?;
    cursor.literal(b'T')?;
    let hour = cursor.number(2, 0..=23)?;
    cursor.literal(b':')?;
    let minute = cursor.number(2, 0..=59)?;
    cursor.literal(b':')?;
    let second = cursor.number(2, 0..=59)?;
    cursor.skip_fraction()?;
    let local = (days_before(year, month) + day - 1) * SECONDS_OF_DAY + hour * 3600 + minute * 60 + second;
    match cursor.0 {
        b"Z" => Some(local),
        [sign @ (b'+' | b'-'), offset @ ..] => {
            let mut cursor = Cursor(offset);
            let hours = cursor.number(2, 0..=23)?;
            cursor.literal(b':')?;
            let minutes = cursor.number(2, 0..=59)?;
            let offset = hours * 3600 + minutes * 60;
            let utc = if *sign == b'+' { local.checked_sub(offset) } else { local.checked_add(offset) };
            utc.filter(|_| cursor.0.is_empty())
        }
        _ => None,
    }
}

struct Cursor<'a>(&'a [u8]);

impl Cursor<'_> {
    fn number(&mut self, digits: usize, allowed: std::ops::RangeInclusive<u64>) -> Option<u64> {
        let (head, rest) = self.0.split_at_checked(digits)?;
        let mut number = 0;
        for byte in head {
            number = number * 10 + u64::from(byte.is_ascii_digit().then(|| byte - b'0')?);
        }
        self.0 = rest;
        allowed.contains(&number).then_some(number)
    }

    fn literal(&mut self, wanted: u8) -> Option<()> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        (*first == wanted).then_some(())
    }

    fn skip_fraction(&mut self) -> Option<()> {
        let Some(fraction) = self.0.strip_prefix(b".") else {
            return Some(());
        };
        let digits = fraction.iter().take_while(|b| b.is_ascii_digit()).count();
        self.0 = &fraction[digits..];
        (digits > 0).then_some(())
    }
}

fn is_leap(year: u64) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

fn days_of_month(year: u64, month: u64) -> u64 {
    let index = usize::try_from(month - 1).expect("a month is 1 to 12");
    MONTHS[index] + u64::from(month == 2 && is_leap(year))
}

/// Days from the epoch to the first of the month; `year` is at least 1970.
fn days_before(year: u64, month: u64) -> u64 {
    let leap_days = |year: u64| year / 4 - year / 100 + year / 400;
    let years = (year - 1970) * 365 + leap_days(year - 1) - leap_days(1969);
    years + (1..month).map(|m| days_of_month(year, m)).sum::<u64>()
}

/// UTC as RFC 3339; a time beyond the year 9999, which RFC 3339 cannot say, as the bare seconds.
pub(super) fn format_time(seconds: u64) -> String {
    let (mut days, rest) = (seconds / SECONDS_OF_DAY, seconds % SECONDS_OF_DAY);
    let mut year = 1970 + days / DAYS_OF_400_YEARS * 400;
    days %= DAYS_OF_400_YEARS;
    while days >= 365 + u64::from(is_leap(year)) {
        days -= 365 + u64::from(is_leap(year));
        year += 1;
    }
    if year > 9999 {
        return seconds.to_string();
    }
    let mut month = 1;
    while days >= days_of_month(year, month) {
        days -= days_of_month(year, month);
        month += 1;
    }
    format!("{year:04}-{month:02}-{:02}T{:02}:{:02}:{:02}Z", days + 1, rest / 3600, rest / 60 % 60, rest % 60)
}

/// The system's time. A clock before 1970 counts as 1970: such a host has other troubles, and the daemon judges by its
/// own clock.
pub(super) fn now() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_800_000_000;

    #[test]
    fn every_written_form_of_a_time_is_read() {
        for (text, seconds) in [
            ("0", 0),
            ("1893456000", 1_893_456_000),
            ("9007199254740991", UNIX_SECONDS_MAX),
            ("+30d", NOW + 30 * 86_400),
            ("+90s", NOW + 90),
            ("1970-01-01T00:00:00Z", 0),
            ("2030-01-01T00:00:00Z", 1_893_456_000),
            ("2030-01-01T01:30:00+01:30", 1_893_456_000),
            ("2029-12-31T19:00:00-05:00", 1_893_456_000),
            ("2030-01-01T00:00:00.999Z", 1_893_456_000),
            ("2000-02-29T23:59:59Z", 951_868_799),
            ("2024-03-01T00:00:00-00:00", 1_709_251_200),
            ("2100-03-01T00:00:00Z", 4_107_542_400),
            ("9999-12-31T23:59:59Z", 253_402_300_799),
        ] {
            assert_eq!(parse_time(text, NOW), Ok(seconds), "{text}");
        }
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in [
            "",
            " 1",
            "-1",
            "+",
            "+30",
            "+30y",
            "++1d",
            "1.5",
            "never",
            "9007199254740992",
            "99999999999999999999",
            "+99999999999999d",
            "2030-01-01",
            "2030-01-01T00:00:00",
            "2030-01-01 00:00:00Z",
            "2030-01-01t00:00:00Z",
            "2030-01-01T00:00:00z",
            "2030-01-01T00:00Z",
            "2030-1-1T00:00:00Z",
            "2030-13-01T00:00:00Z",
            "2030-00-01T00:00:00Z",
            "2030-02-29T00:00:00Z",
            "2100-02-29T00:00:00Z",
            "2030-01-32T00:00:00Z",
            "2030-01-01T24:00:00Z",
            "2030-01-01T00:60:00Z",
            "2030-12-31T23:59:60Z",
            "2030-01-01T00:00:00.Z",
            "2030-01-01T00:00:00+1:00",
            "2030-01-01T00:00:00+0100",
            "2030-01-01T00:00:00+24:00",
            "2030-01-01T00:00:00+01:00 ",
            "2030-01-01T00:00:00Zulu",
            "1969-12-31T23:59:59Z",
            "1970-01-01T00:00:00+01:00",
            "+2030-01-01T00:00:00Z",
            "２０３０-01-01T00:00:00Z",
        ] {
            assert!(parse_time(text, NOW).is_err(), "{text}");
        }
    }

    #[test]
    fn a_time_reads_back_as_it_was_printed() {
        for seconds in [0, 59, 86_399, 951_782_400, 951_868_800, 1_709_164_800, 1_893_456_000, 4_107_542_399] {
            assert_eq!(parse_time(&format_time(seconds), NOW), Ok(seconds));
        }
        assert_eq!(format_time(951_782_400), "2000-02-29T00:00:00Z");
        assert_eq!(format_time(253_402_300_799), "9999-12-31T23:59:59Z");
        assert_eq!(format_time(253_402_300_800), "253402300800");
        assert_eq!(format_time(UNIX_SECONDS_MAX), UNIX_SECONDS_MAX.to_string());
    }
}
