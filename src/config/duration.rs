//! Durations as people write them.

use std::time::Duration;

/// No time that is configured is longer: so none overflows when it is added to another.
pub(super) const MAX: Duration = Duration::from_secs(365 * 24 * 3600);

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
}
