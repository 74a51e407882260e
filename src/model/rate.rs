//! Rates: how often a credential may be allowed.

use std::fmt;

/// The largest number of a rate: more than a host answers in a day, and no product with a spacing in nanoseconds
/// overflows.
pub const RATE_NUMBER_MAX: u32 = 1_000_000_000;

/// The time that a rate's number is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Period {
    /// `s`
    Second,
    /// `m`
    Minute,
    /// `h`
    Hour,
    /// `d`
    Day,
}

impl Period {
    const ALL: [Self; 4] = [Self::Second, Self::Minute, Self::Hour, Self::Day];

    /// Its letter.
    #[must_use]
    pub const fn letter(self) -> &'static str {
        match self {
            Self::Second => "s",
            Self::Minute => "m",
            Self::Hour => "h",
            Self::Day => "d",
        }
    }

    /// Its seconds.
    #[must_use]
    pub const fn seconds(self) -> u32 {
        match self {
            Self::Second => 1,
            Self::Minute => 60,
            Self::Hour => 3_600,
            Self::Day => 86_400,
        }
    }
}

/// So many requests in each period, as many at once: `100/s`, `1000/h`, `10000/d`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Rate {
    number: u32,
    period: Period,
}

/// Why a text is no [`Rate`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateError;

impl fmt::Display for RateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "it is no rate: give a number from 1 to {RATE_NUMBER_MAX} and a period, as in 100/s, 60/m, 1000/h, 10000/d"
        )
    }
}

impl std::error::Error for RateError {}

impl Rate {
    /// Reads `100/s`.
    ///
    /// # Errors
    /// See [`RateError`].
    pub fn parse(text: &str) -> Result<Self, RateError> {
        let (number, letter) = text.split_once('/').ok_or(RateError)?;
        let is_plain = number.bytes().all(|digit| digit.is_ascii_digit()) && !number.starts_with('0');
        let number = number.parse().ok().filter(|number| is_plain && (1..=RATE_NUMBER_MAX).contains(number));
        let period = Period::ALL.into_iter().find(|period| period.letter() == letter);
        Ok(Self { number: number.ok_or(RateError)?, period: period.ok_or(RateError)? })
    }

    /// Requests in a period; 1 to [`RATE_NUMBER_MAX`].
    #[must_use]
    pub const fn number(self) -> u32 {
        self.number
    }

    /// The period.
    #[must_use]
    pub const fn period(self) -> Period {
        self.period
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.number, self.period.letter())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_a_number_and_a_period() {
        for text in ["1/s", "100/s", "60/m", "1000/h", "10000/d", "1000000000/d"] {
            assert_eq!(Rate::parse(text).map(|rate| rate.to_string()), Ok(text.to_string()));
        }
        for text in [
            "",
            "/",
            "/s",
            "1",
            "1/",
            "0/s",
            "01/s",
            "+1/s",
            "-1/s",
            "1/S",
            "1/w",
            "1 /s",
            "1/s ",
            "1/s/s",
            "1000000001/s",
            "1.5/s",
        ] {
            assert_eq!(Rate::parse(text), Err(RateError), "{text:?}");
        }
    }
}
