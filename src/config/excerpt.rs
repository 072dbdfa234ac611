//! The line of a file that an error is about, with carets under the part that is wrong.
//!
//! Our own code, as secrets, control characters and long lines need their own treatment, and
//! little is left for a library to do.

use std::ops::Range;

use crate::text;

/// Maximum width of the line, in characters.
const MAX_WIDTH: usize = 72;
/// How much of a long line stays before the part that is wrong.
const CONTEXT: usize = 24;

/// The line in which `place` begins, and carets under it; `None` if the line may hold a secret.
pub(super) fn excerpt(text: &str, place: &Range<usize>) -> Option<String> {
    let before = text.get(..place.start)?;
    let start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let line = text[start..].lines().next().unwrap_or_default();
    if is_in_env(&text[..start], line) || text::may_hold_secret(line) {
        return None;
    }
    // A place may be the end of the line, or of the file.
    let from = (place.start - start).min(line.len());
    let to = place.end.saturating_sub(start).clamp(from, line.len());
    let shown = |part: &str| text::visible(part).chars().collect::<Vec<char>>();
    let (mut head, wrong, tail) =
        (shown(line.get(..from)?), shown(line.get(from..to)?), shown(line.get(to..)?));
    if head.len() + wrong.len() + tail.len() > MAX_WIDTH && head.len() > CONTEXT {
        head.drain(..head.len() - CONTEXT);
        head[0] = '…';
    }
    let column = head.len();
    let mut all = [head, wrong.clone(), tail].concat();
    if all.len() > MAX_WIDTH {
        all.truncate(MAX_WIDTH - 1);
        all.push('…');
    }
    let carets = "^".repeat(wrong.len().clamp(1, all.len().saturating_sub(column).max(1)));
    let number = (before.matches('\n').count() + 1).to_string();
    let all: String = all.into_iter().collect();
    let (gutter, space) = (" ".repeat(number.len()), " ".repeat(column));
    Some(format!("{number} | {}\n{gutter} | {space}{carets}", all.trim_end()))
}

/// Whether the line belongs to the table `env`, whose values may be secrets. Behind a text of
/// several lines in such a table that is not certain, and so taken to be true.
fn is_in_env(above: &str, line: &str) -> bool {
    let is_env = |header: &str| {
        let name = header.trim_start().trim_start_matches(['[', ' ', '\t', '"', '\'']);
        name.strip_prefix("env").is_some_and(|rest| {
            !rest.starts_with(|c: char| c.is_alphanumeric() || c == '_' || c == '-')
        })
    };
    let mut is_inside = false;
    let mut is_open = false;
    for line in above.lines() {
        if line.trim_start().starts_with('[') && !is_open {
            is_inside = is_env(line);
        }
        is_open |= is_inside && (line.contains("\"\"\"") || line.contains("'''"));
    }
    is_inside || is_env(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The excerpt for the first `wrong` in this text.
    fn of(text: &str, wrong: &str) -> String {
        let start = text.find(wrong).unwrap();
        excerpt(text, &(start..start + wrong.len())).unwrap_or_else(|| "none".to_owned())
    }

    #[test]
    fn carets_are_under_the_value_by_characters() {
        assert_eq!(of("a = 1\ndelay = \"x\"\n", "\"x\""), "2 | delay = \"x\"\n  |         ^^^");
        assert_eq!(of("é = \"ä\" # 5\n", "5"), "1 | é = \"ä\" # 5\n  |           ^");
        assert_eq!(of("a = 1\r\nb = 2\r\n", "2"), "2 | b = 2\n  |     ^");
        assert_eq!(of("a = 1\nb = 2", "2"), "2 | b = 2\n  |     ^");
        assert_eq!(of("a = [\n  1,\n]\n", "[\n  1,\n]"), "1 | a = [\n  |     ^");
        let many = "\n".repeat(99) + "a = 1";
        assert_eq!(of(&many, "1"), "100 | a = 1\n    |     ^");
    }

    #[test]
    fn a_place_at_an_end_has_one_caret() {
        assert_eq!(excerpt("a =\n", &(3..3)).unwrap(), "1 | a =\n  |    ^");
        assert_eq!(excerpt("a =\r\n", &(4..5)).unwrap(), "1 | a =\n  |    ^");
        assert_eq!(excerpt("", &(0..0)).unwrap(), "1 | \n  | ^");
        assert_eq!(excerpt("ä", &(1..2)), None, "inside of a character");
    }

    #[test]
    fn what_a_terminal_would_obey_is_shown_and_long_lines_are_cut() {
        assert_eq!(of("\ta\t= 1\u{1b}[2J", "1"), "1 | \\ta\\t= 1\\u{1b}[2J\n  |        ^");
        let long = format!("{} = {}", "k".repeat(100), "v".repeat(100));
        let shown = of(&long, &"v".repeat(100));
        let lines: Vec<&str> = shown.lines().collect();
        assert!(lines.iter().all(|line| line.chars().count() <= MAX_WIDTH + 4), "{shown}");
        assert_eq!(
            lines[0].find("= v").unwrap() + 2,
            lines[1].find('^').unwrap() + '…'.len_utf8() - 1
        );
        let value = of(&format!("a = \"{}\" # x", "v".repeat(100)), "# x");
        assert!(value.ends_with("^^^") && value.contains("# x"), "{value}");
    }

    #[test]
    fn a_line_that_may_hold_a_secret_is_not_shown() {
        for text in [
            "[env]\nA = 5\n",
            "[env]\nA = \"\"\"\n[build]\n5\n",
            "[ env ] # x\nA = 5\n",
            "[env.x]\nA = 5\n",
            "[\"env\"]\nA = 5\n",
            "env.A = 5\n",
            "env = { A = 5 }\n",
            "[build]\ncmd = \"API_TOKEN=abc make 5\"\n",
            "[build]\napi_key = [\"5\n",
            "[build]\nDB_PASSWORD = \"5\n",
            "[build]\n\"API_TOKEN\" = 5\n",
            "cmd = \"curl --auth-token abc 5\"\n",
            "cmd = \"psql x://u:pw@h/ 5\"\n",
        ] {
            assert_eq!(of(text, "5"), "none", "{text}");
        }
        for text in ["env_files = 5\n", "[env]\nA = 1\n[build]\ndelay = 5\n", "environment = 5"] {
            assert!(of(text, "5").ends_with('^'), "{text}");
        }
    }

    #[test]
    fn fuzz_an_excerpt_has_two_lines_that_no_terminal_obeys() {
        let corpus = ["a = 1\r\n\tb = \"ä\u{1b}[2J\"\n[env]\nA = 1\n", "x = [\n'a',\n]\u{202e}"];
        crate::fuzz::hammer(&corpus, &["\n", "\"\"\"", "env", "TOKEN = "], |text| {
            let text = String::from_utf8_lossy(text);
            for start in 0..text.len() {
                let Some(shown) = excerpt(&text, &(start..text.len())) else { continue };
                assert_eq!(shown.lines().count(), 2, "{shown:?}");
                assert!(shown.lines().all(|line| line.chars().count() <= MAX_WIDTH + 8));
                assert_eq!(text::visible(&shown), shown);
            }
        });
    }
}
