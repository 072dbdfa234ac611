//! Text that others have chosen, as hotrun shows it.

use std::borrow::Cow;
use std::sync::LazyLock;

use regex::Regex;

/// Control characters (an escape sequence, say) and those that turn the direction of writing are
/// shown, not obeyed: no name and no value can hide, or look like, something else on a terminal.
/// Line feeds stay.
pub fn visible(text: &str) -> Cow<'_, str> {
    let is_obeyed = |c: char| {
        c != '\n'
            && (c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'))
    };
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

/// Words in the names of variables whose values are secrets.
const SECRET: &str = "SECRET|TOKEN|PASSW(?:OR)?D|PASSPHRASE|API_?KEY|ACCESS_?KEY|PRIVATE_?KEY|\
                      CREDENTIAL";

static SECRETS: LazyLock<Option<[Regex; 2]>> = LazyLock::new(|| {
    let assigned =
        format!(r#"(?i)\b([A-Z0-9_]*(?:{SECRET})[A-Z0-9_]*\s*=\s*)("[^"]*"|'[^']*'|\S+)"#);
    let in_address = r"\b([a-zA-Z][a-zA-Z0-9+.-]*://[^\s:/@]*:)[^\s/@]+@";
    Some([Regex::new(&assigned).ok()?, Regex::new(in_address).ok()?])
});

/// What looks like a secret is masked: the value that is assigned to a variable with such a name,
/// and the password in an address.
pub fn masked(text: &str) -> Cow<'_, str> {
    if !text.contains('=') && !text.contains("://") {
        return Cow::Borrowed(text);
    }
    let Some([assigned, in_address]) = &*SECRETS else { return Cow::Borrowed(text) };
    let text = assigned.replace_all(text, "$1***");
    match in_address.replace_all(&text, "$1***@") {
        Cow::Borrowed(_) => text,
        Cow::Owned(masked) => Cow::Owned(masked),
    }
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
            ("env DB_PASSWORD='two words' ./app", "env DB_PASSWORD=*** ./app"),
            ("GITHUB_TOKEN = \"ghp\" # .env:3", "GITHUB_TOKEN = *** # .env:3"),
            ("psql postgres://me:hunter2@db/x", "psql postgres://me:***@db/x"),
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
