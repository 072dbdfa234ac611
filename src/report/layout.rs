//! The layout of lines: colours, columns, widths, and the format of numbers.

use std::env;
use std::ffi::OsString;
use std::io::IsTerminal;
use std::time::Duration;

use super::{Part, Report, Tone};
use crate::config::{Color, Loudness};
use crate::text::shown;

/// Maximum length of text from outside hotrun, in characters.
const MAX_SHOWN: usize = 60;

/// Width of the first word of a line, in columns. It is smaller after the time of day, which is two
/// columns wider than `hotrun`.
pub(super) const WORD: usize = 9;
const WORD_BESIDE_TIME: usize = 7;

/// Minimum width of a terminal for which lines are wrapped, in columns.
const MIN_WIDTH: usize = 50;

/// Returns whether text on stderr is coloured. `NO_COLOR` and `TERM=dumb` turn colours off;
/// `CLICOLOR_FORCE` and `FORCE_COLOR` turn them on where stderr is not a terminal.
pub(crate) fn wants_color(color: Color) -> bool {
    let is_set = |name: &str| env::var_os(name).is_some_and(|value| !value.is_empty());
    let is_forced = |name: &str| is_set(name) && env::var_os(name).is_some_and(|one| one != "0");
    match color {
        Color::Always => true,
        Color::Never => false,
        Color::Auto if is_set("NO_COLOR") => false,
        Color::Auto if is_forced("CLICOLOR_FORCE") || is_forced("FORCE_COLOR") => true,
        Color::Auto => {
            std::io::stderr().is_terminal() && env::var_os("TERM").is_none_or(|term| term != "dumb")
        }
    }
}

impl Report {
    /// Returns variables that pass `--color always` or `never` on to cargo, Go's tools, npm and
    /// others. Those in hotrun's own environment are kept.
    pub(crate) fn color_variables(&self) -> impl Iterator<Item = (OsString, OsString)> {
        let all: &[(&str, &str)] = match self.chosen_color {
            Some(Color::Always) => {
                &[("CARGO_TERM_COLOR", "always"), ("CLICOLOR_FORCE", "1"), ("FORCE_COLOR", "1")]
            }
            Some(Color::Never) => &[("CARGO_TERM_COLOR", "never"), ("NO_COLOR", "1")],
            Some(Color::Auto) | None => &[],
        };
        let is_free = |(name, _): &&(&str, &str)| env::var_os(name).is_none();
        all.iter().filter(is_free).map(|(name, value)| (name.into(), value.into()))
    }

    pub(super) fn line(&self, part: Part, tone: Tone, word: &str, text: &str) {
        if !self.is_printed(part, tone) {
            return;
        }
        self.print(&self.lead(), (Some(part), tone), (word, WORD), text);
    }

    /// Prints a line that starts a new paragraph on a terminal: after an empty line, and with the
    /// time of day in place of `hotrun`.
    pub(super) fn first_line(&self, part: Part, tone: Tone, word: &str, text: &str) {
        if !self.is_printed(part, tone) {
            return;
        }
        if !std::io::stderr().is_terminal() || self.talk.time || self.talk.compact {
            return self.print(&self.lead(), (Some(part), tone), (word, WORD), text);
        }
        if self.screen.has_printed() {
            self.erase_bar();
            self.write("\n");
        }
        let time = jiff::ZonedDateTime::now().strftime("%H:%M:%S").to_string();
        self.print(&time, (Some(part), tone), (word, WORD_BESIDE_TIME), text);
    }

    /// Prints the outcome of a save in compact mode.
    pub(super) fn compact_line(&self, tone: Tone, sign: char, text: &str) {
        if self.talk.compact && !self.is_silent() {
            if tone.is_urgent() {
                self.print_greeting(None);
            }
            self.erase_bar();
            let (code, text) = (tone.code(), shown(text));
            self.write(&match (self.color, tone) {
                (false, _) => format!("{sign} {text}\n"),
                // A failure stands out, as in other lines.
                (true, Tone::Bad) => format!("\u{1b}[{code}m{sign} {text}\u{1b}[0m\n"),
                (true, Tone::Plain | Tone::Work | Tone::Good | Tone::Warn) => {
                    format!("\u{1b}[{code}m{sign}\u{1b}[0m {text}\n")
                }
            });
        }
    }

    /// Whether not even the main lines are printed.
    pub(super) fn is_silent(&self) -> bool {
        self.quiet || self.talk.loudness == Loudness::Silent
    }

    pub(super) fn is_printed(&self, part: Part, tone: Tone) -> bool {
        let is_wanted = match self.talk.loudness {
            Loudness::Silent => false,
            Loudness::MainOnly => tone.is_urgent() || part == Part::Main,
            Loudness::All => true,
        };
        // In compact mode one line reports the outcome of a save.
        let is_detail = self.talk.compact && part != Part::Main;
        is_wanted && (tone.is_urgent() || !self.quiet && !is_detail)
    }

    pub(super) fn lead(&self) -> String {
        if self.talk.time {
            jiff::ZonedDateTime::now().strftime("[%H:%M:%S] hotrun").to_string()
        } else {
            "hotrun".to_owned()
        }
    }

    /// Erases the current line, if a build's progress bar may be on it.
    fn erase_bar(&self) {
        if self.may_show_bar.get() && std::io::stderr().is_terminal() {
            self.write("\r\u{1b}[K");
        }
    }

    /// Prints one line. The word is aligned in the given number of columns.
    fn print(
        &self,
        lead: &str,
        (part, tone): (Option<Part>, Tone),
        word: (&str, usize),
        text: &str,
    ) {
        if tone.is_urgent() {
            self.print_greeting(None);
        }
        self.erase_bar();
        self.write(&self.formatted(lead, (part, tone), word, text));
        self.screen.printed();
    }

    /// A line with its colours and its end.
    pub(super) fn formatted(
        &self,
        lead: &str,
        (part, tone): (Option<Part>, Tone),
        (word, column): (&str, usize),
        text: &str,
    ) -> String {
        let text = shown(text);
        let width = terminal_size::terminal_size_of(std::io::stderr()).map(|(width, _)| width.0);
        let indent = lead.chars().count() + column + 3;
        let text = match width.map(usize::from).filter(|width| *width >= MIN_WIDTH) {
            Some(width) => wrapped(&text, indent, width),
            None => text,
        };
        if !self.color {
            return format!("{}\n", format!("{lead} {word:>column$}  {text}").trim_end());
        }
        let colors = &self.talk.colors;
        let chosen = match part {
            _ if tone.is_urgent() => None,
            None | Some(Part::Main) => colors.main,
            Some(Part::Watcher) => colors.watcher,
            Some(Part::Build) => colors.build,
            Some(Part::Runner) => colors.runner,
        };
        let code = chosen.unwrap_or(tone.code());
        // A failure is to be found at a glance: its text stands out, too.
        let text = match tone {
            Tone::Bad => format!("\u{1b}[{code}m{text}\u{1b}[0m"),
            Tone::Plain | Tone::Work | Tone::Good | Tone::Warn => text,
        };
        format!("\u{1b}[2m{lead}\u{1b}[0m \u{1b}[{code}m{word:>column$}\u{1b}[0m  {text}\n")
    }
}

/// Breaks the text at blanks so that no line is wider than `width`, and indents all lines but the
/// first. Existing line breaks stay.
fn wrapped(text: &str, indent: usize, width: usize) -> String {
    let room = width.saturating_sub(indent).max(1);
    let mut lines = Vec::new();
    for line in text.split('\n') {
        // An excerpt of a file keeps its columns.
        if line.chars().count() <= room || line.starts_with(' ') {
            lines.push(line.to_owned());
            continue;
        }
        let mut current = String::new();
        for word in line.split(' ') {
            let length = current.chars().count() + 1 + word.chars().count();
            if !current.is_empty() && length > room {
                lines.push(std::mem::take(&mut current));
            }
            if !current.is_empty() {
                current.push(' ');
            }
            current.push_str(word);
        }
        lines.push(current);
    }
    lines.join(&format!("\n{}", " ".repeat(indent)))
}

/// Returns text from outside hotrun as one line of limited length.
pub(super) fn short(text: &str) -> String {
    let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.chars().count() <= MAX_SHOWN {
        return text;
    }
    text.chars().take(MAX_SHOWN).chain(['…']).collect()
}

/// Names the first of several processes: `"sleep 1000" (pid 7) and 2 more`.
pub(super) fn name_processes(all: &[(i32, String)]) -> String {
    let Some(((pid, command), rest)) = all.split_first() else { return String::new() };
    let short = short(command);
    let more = if rest.is_empty() { String::new() } else { format!(" and {} more", rest.len()) };
    format!("\"{short}\" (pid {pid}){more}")
}

/// Formats a duration with three digits: `12 ms`, `1.24 s`, `5 s`, `3 min 5 s`.
pub(super) fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    if seconds < 0.9995 {
        format!("{} ms", (seconds * 1000.0).round())
    } else if seconds < 9.995 {
        let seconds = format!("{seconds:.2}");
        format!("{} s", seconds.strip_suffix(".00").unwrap_or(&seconds))
    } else if seconds < 60.0 {
        format!("{seconds:.0} s")
    } else {
        format!("{} min {} s", duration.as_secs() / 60, duration.as_secs() % 60)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_the_unit_that_fits() {
        let shown = |ms| duration(Duration::from_millis(ms));
        assert_eq!(shown(0), "0 ms");
        assert_eq!(shown(12), "12 ms");
        assert_eq!(shown(1240), "1.24 s");
        assert_eq!(shown(3001), "3 s");
        assert_eq!(shown(5000), "5 s");
        assert_eq!(shown(42_300), "42 s");
        assert_eq!(shown(185_000), "3 min 5 s");
    }

    #[test]
    fn long_lines_break_at_blanks_and_hang() {
        assert_eq!(wrapped("one two three", 4, 12), "one two\n    three");
        assert_eq!(wrapped("one two", 4, 12), "one two");
        assert_eq!(wrapped("averylongword is here", 2, 10), "averylongword\n  is here");
        // Line breaks stay, and an excerpt keeps its columns.
        assert_eq!(wrapped("a\n    = \"x y z w\"", 2, 8), "a\n      = \"x y z w\"");
        assert_eq!(wrapped("", 4, 12), "");
    }
}
