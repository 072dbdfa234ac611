//! Durations as people write them: the one rule for all keys, also on the command line.
//!
//! A duration is a text with a unit, such as `"500ms"`, `"5s"` or `"1m30s"`. A number without a unit
//! means what air takes it for if the key is air's and the file is named after air. Everywhere else
//! it means milliseconds from 100 on; below, where seconds may be meant, it is refused.

use std::time::Duration;

use super::document::NumberOrText;

/// Maximum of every duration that is configured, so that none overflows when it is added to another.
const MAX: Duration = Duration::from_secs(365 * 24 * 3600);
/// Below this, a number without a unit may as well mean seconds.
const MIN_BARE: i64 = 100;
/// What a duration must look like.
pub(super) const EXPECTED: &str = "a duration, for example \"500ms\" or \"5s\"";

/// What a number without a unit means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bare {
    /// Milliseconds, unless it is too small for that to be certain.
    NeedsUnit,
    /// Milliseconds, as for most of air's keys.
    Milliseconds,
    /// Go's nanoseconds, as for air's `kill_delay`. air multiplies those under a millisecond by a
    /// million, as milliseconds are meant.
    Nanoseconds,
}

/// Why a duration is refused: the reason, and what to write instead.
pub(super) type Refusal = (String, Option<String>);

/// Reads a duration; `None` for an empty text, which is an unset one.
pub(super) fn read(written: &NumberOrText, bare: Bare) -> Result<Option<Duration>, Refusal> {
    let malformed = || (format!("expected {EXPECTED}"), None);
    let found = match written {
        NumberOrText::Text(text) if text.trim().is_empty() => return Ok(None),
        NumberOrText::Text(text) => match text.trim().parse::<i64>() {
            Ok(number) if number > 0 => return Err(no_unit(number)),
            _ => parse(text).ok_or_else(malformed)?,
        },
        NumberOrText::Number(number) => {
            let whole = u64::try_from(*number).map_err(|_| malformed())?;
            match bare {
                Bare::NeedsUnit if (1..MIN_BARE).contains(number) => return Err(no_unit(*number)),
                Bare::Nanoseconds if whole >= 1_000_000 => Duration::from_nanos(whole),
                Bare::NeedsUnit | Bare::Milliseconds | Bare::Nanoseconds => {
                    Duration::from_millis(whole)
                }
            }
        }
    };
    if found > MAX {
        return Err(("expected at most a year (\"8760h\")".to_owned(), None));
    }
    Ok(Some(found))
}

fn no_unit(number: i64) -> Refusal {
    (format!("{number} has no unit"), Some(format!("write \"{number}s\" or \"{number}ms\"")))
}

/// A duration as it is written.
pub(crate) fn written(duration: Duration) -> String {
    if duration.is_zero() { "0s".to_owned() } else { format!("{duration:?}") }
}

/// Reads `300ms`, `1.5s`, `1m30s`: numbers with units, as Go's `time.ParseDuration` does.
/// `0` needs no unit.
pub(crate) fn parse(text: &str) -> Option<Duration> {
    let text = text.trim();
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let mut rest = text;
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        let after = &rest[digits..];
        let end = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let seconds = match &after[..end] {
            "ns" => 1e-9,
            "us" | "µs" | "μs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return None,
        };
        total = total.checked_add(Duration::try_from_secs_f64(number * seconds).ok()?)?;
        rest = &after[end..];
    }
    (!text.is_empty()).then_some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_go_reads_them() {
        let ms = |text| parse(text).map(|duration| duration.as_millis());
        assert_eq!(ms("500ms"), Some(500));
        assert_eq!(ms("1.5s"), Some(1500));
        assert_eq!(ms("1m30s"), Some(90_000));
        assert_eq!(parse("500us"), Some(Duration::from_micros(500)));
        assert_eq!(ms("0"), Some(0));
        assert_eq!(ms("0s"), Some(0));
        for wrong in ["", "2", "fast", "-1s", "1 s", "5parsecs", "s"] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_number_without_a_unit_is_never_5_ms_by_surprise() {
        use Bare::{Milliseconds, Nanoseconds, NeedsUnit};
        let remedy = "write \"5s\" or \"5ms\"";
        let year = "at most a year";
        let expected = "expected a duration";
        let text = |text: &str| NumberOrText::Text(text.to_owned());
        let number = NumberOrText::Number;
        for (written, of_hotrun, in_ms, in_ns) in [
            (number(0), "0s", "0s", "0s"),
            (number(1), "write \"1s\"", "1ms", "1ms"),
            (number(5), remedy, "5ms", "5ms"),
            (number(99), "write \"99s\" or \"99ms\"", "99ms", "99ms"),
            (number(100), "100ms", "100ms", "100ms"),
            (number(500), "500ms", "500ms", "500ms"),
            (number(999_999), "999.999s", "999.999s", "999.999s"),
            (number(1_000_000), "1000s", "1000s", "1ms"),
            (number(500_000_000), "500000s", "500000s", "500ms"),
            (number(-1), expected, expected, expected),
            (number(i64::MAX), year, year, year),
            (text("5"), remedy, remedy, remedy),
            (text("500"), "write \"500s\"", "write \"500s\"", "write \"500s\""),
            (text("0"), "0s", "0s", "0s"),
            (text(""), "unset", "unset", "unset"),
            (text("5s"), "5s", "5s", "5s"),
            (text("5ms"), "5ms", "5ms", "5ms"),
            (text("500us"), "500µs", "500µs", "500µs"),
            (text("9000h"), year, year, year),
            (text("-5"), expected, expected, expected),
            (text("1.5"), expected, expected, expected),
            (text("5 s"), expected, expected, expected),
            (text("fast"), expected, expected, expected),
        ] {
            for (bare, meant) in
                [(NeedsUnit, of_hotrun), (Milliseconds, in_ms), (Nanoseconds, in_ns)]
            {
                match read(&written, bare) {
                    Ok(None) => assert_eq!(meant, "unset"),
                    Ok(Some(found)) => assert_eq!(super::written(found), meant, "{written:?}"),
                    Err((reason, remedy)) => {
                        let all = format!("{reason}; {}", remedy.unwrap_or_default());
                        assert!(all.contains(meant), "{written:?} {bare:?}: {all}");
                    }
                }
            }
        }
    }
}
