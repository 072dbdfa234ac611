//! Refuses what two parsers of HTTP/1.1 could understand differently.
//!
//! hyper is lenient where the standard allows it: a line may end with a bare line feed, a
//! `Content-Length` beside `Transfer-Encoding` is dropped. What passes here has one meaning only.
//! Instead of the first violation, and of all that follows, hyper gets what no message may have,
//! which it answers with status 400.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::tap::{Passes, Tap};

/// Maximum length of a line of a head or between chunks, in bytes. hyper's own limit for a whole
/// head is smaller.
const MAX_LINE: usize = super::MAX_HEAD + 1024;

/// Malformed as a part of a head, between chunks, and after them. With the end of a head, without
/// which hyper may wait for more of it.
const REFUSED: &[u8] = b"\0\r\n\r\n";

/// What a client may send next.
#[derive(Debug)]
enum Next {
    /// The first line of a request, or an empty line before it.
    Request,
    /// Another line of the head.
    Field,
    /// This number of bytes of a body, or of a chunk with its line end.
    Body { left: u64, then: Then },
    /// The line with the size of a chunk.
    Size,
    /// A line after the last chunk.
    Trailer,
    /// Anything: the connection is HTTP/2, or a tunnel.
    Anything,
    /// Nothing: something was refused.
    Nothing,
}

/// What follows a part of a body.
#[derive(Clone, Copy, Debug)]
enum Then {
    Request,
    Size,
}

/// The framing of a request, as its head describes it.
#[derive(Debug, Default)]
struct Framing {
    length: Option<u64>,
    is_chunked: bool,
}

/// Something was refused.
#[derive(Debug)]
struct Refused;

#[derive(Debug)]
struct Grammar {
    next: Next,
    framing: Framing,
    /// The begin of a line whose end has not arrived.
    line: Vec<u8>,
    is_first: bool,
}

impl Grammar {
    fn new() -> Self {
        Self { next: Next::Request, framing: Framing::default(), line: Vec::new(), is_first: true }
    }

    /// Checks bytes as they arrive. Returns where the violation is, if there is one: everything
    /// before that may be passed on.
    fn check(&mut self, bytes: &[u8]) -> Option<usize> {
        let mut at = 0;
        while at < bytes.len() {
            match self.next {
                Next::Anything => return None,
                Next::Nothing => return Some(at),
                Next::Body { left, then } => {
                    let here = (bytes.len() - at) as u64;
                    if left > here {
                        self.next = Next::Body { left: left - here, then };
                        return None;
                    }
                    at += usize::try_from(left).unwrap_or(usize::MAX);
                    self.next = match then {
                        Then::Request => Next::Request,
                        Then::Size => Next::Size,
                    };
                }
                Next::Request | Next::Field | Next::Size | Next::Trailer => {
                    let rest = &bytes[at..];
                    let Some(end) = rest.iter().position(|byte| *byte == b'\n') else {
                        self.line.extend_from_slice(rest);
                        let is_too_long = self.line.len() > MAX_LINE;
                        return is_too_long.then_some(bytes.len() - 1);
                    };
                    let checked = if self.line.is_empty() {
                        self.line_is(&rest[..end])
                    } else {
                        let mut line = std::mem::take(&mut self.line);
                        line.extend_from_slice(&rest[..end]);
                        self.line_is(&line)
                    };
                    if checked.is_err() {
                        self.next = Next::Nothing;
                        return Some(at + end);
                    }
                    at += end + 1;
                }
            }
        }
        None
    }

    /// Handles one line, without its line feed.
    fn line_is(&mut self, line: &[u8]) -> Result<(), Refused> {
        let line = line.strip_suffix(b"\r").ok_or(Refused)?;
        if line.contains(&b'\r') {
            return Err(Refused);
        }
        self.next = match self.next {
            Next::Request | Next::Trailer if line.is_empty() => Next::Request,
            Next::Request if self.is_first && line == b"PRI * HTTP/2.0" => Next::Anything,
            Next::Request => {
                self.is_first = false;
                self.framing = Framing::default();
                Next::Field
            }
            Next::Field if line.is_empty() => match self.framing {
                Framing { is_chunked: true, length: None } => Next::Size,
                Framing { is_chunked: true, length: Some(_) } => return Err(Refused),
                Framing { is_chunked: false, length } => {
                    Next::Body { left: length.unwrap_or(0), then: Then::Request }
                }
            },
            Next::Field => {
                self.framing.field(line)?;
                Next::Field
            }
            Next::Size => match chunk_size(line)? {
                0 => Next::Trailer,
                size => {
                    // The line end after the data has to be one, which hyper checks.
                    let left = size.checked_add(2).ok_or(Refused)?;
                    Next::Body { left, then: Then::Size }
                }
            },
            Next::Trailer => {
                name_and_value(line)?;
                Next::Trailer
            }
            Next::Body { .. } | Next::Anything | Next::Nothing => Next::Nothing,
        };
        Ok(())
    }
}

impl Framing {
    /// Takes note of a field of the head.
    fn field(&mut self, line: &[u8]) -> Result<(), Refused> {
        let (name, value) = name_and_value(line)?;
        if name.eq_ignore_ascii_case(b"content-length") {
            let is_number = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
            let length = std::str::from_utf8(value).ok().filter(|_| is_number);
            let length = length.and_then(|text| text.parse().ok()).ok_or(Refused)?;
            if self.length.replace(length).is_some() {
                return Err(Refused);
            }
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            let is_chunked = value.eq_ignore_ascii_case(b"chunked");
            if !is_chunked || std::mem::replace(&mut self.is_chunked, true) {
                return Err(Refused);
            }
        }
        Ok(())
    }
}

/// Returns the name and the value of a field. A line that continues the one before has none.
fn name_and_value(line: &[u8]) -> Result<(&[u8], &[u8]), Refused> {
    let colon = line.iter().position(|byte| *byte == b':').ok_or(Refused)?;
    let (name, value) = (&line[..colon], &line[colon + 1..]);
    let is_blank = |byte: &u8| *byte == b' ' || *byte == b'\t';
    if name.is_empty() || name.iter().any(is_blank) {
        return Err(Refused);
    }
    Ok((name, value.trim_ascii()))
}

/// Returns the size of a chunk from its line: hexadecimal digits, and extensions after a semicolon.
fn chunk_size(line: &[u8]) -> Result<u64, Refused> {
    let digits = line.split(|byte| *byte == b';').next().unwrap_or_default();
    if digits.len() > 16 || !digits.iter().all(u8::is_ascii_hexdigit) {
        return Err(Refused);
    }
    let digits = std::str::from_utf8(digits).map_err(|_| Refused)?;
    u64::from_str_radix(digits, 16).map_err(|_| Refused)
}

/// Checks the requests of a client.
pub(super) struct Strict {
    grammar: Grammar,
    /// Set when the connection becomes a tunnel.
    is_tunnel: Arc<AtomicBool>,
}

impl Strict {
    pub(super) fn new(is_tunnel: Arc<AtomicBool>) -> Self {
        Self { grammar: Grammar::new(), is_tunnel }
    }
}

impl Tap for Strict {
    fn passes(&mut self, arrived: &[u8]) -> Passes {
        if self.is_tunnel.load(Ordering::Relaxed) {
            return Passes::All;
        }
        if matches!(self.grammar.next, Next::Nothing) {
            return Passes::None;
        }
        let Some(place) = self.grammar.check(arrived) else { return Passes::All };
        self.grammar.next = Next::Nothing;
        Passes::Until(place, REFUSED)
    }

    fn is_within_message(&self) -> bool {
        match self.grammar.next {
            Next::Request | Next::Body { left: 0, then: Then::Request } => {
                !self.grammar.line.is_empty()
            }
            Next::Anything => false,
            Next::Field | Next::Body { .. } | Next::Size | Next::Trailer | Next::Nothing => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns whether the bytes pass, however they are cut into pieces.
    fn passes(text: &str) -> bool {
        let whole = Grammar::new().check(text.as_bytes()).is_none();
        for size in 1..=text.len() {
            let mut grammar = Grammar::new();
            let pieces = text.as_bytes().chunks(size);
            let in_pieces = pieces.into_iter().all(|piece| grammar.check(piece).is_none());
            assert_eq!(in_pieces, whole, "in pieces of {size}: {text:?}");
        }
        whole
    }

    #[test]
    fn what_has_one_meaning_passes() {
        for text in [
            "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
            "\r\nGET / HTTP/1.1\r\nHost:a\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n",
            "POST / HTTP/1.1\r\nContent-Length: 4\r\n\r\n\n\n\n\nGET / HTTP/1.1\r\n\r\n",
            "POST / HTTP/1.1\r\ncontent-length:  4 \r\n\r\nabcdGET / HTTP/1.1\r\n\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\na\nb\r\nA;x=\"y\"\r\n\
             0123456789\r\n0\r\n\r\nGET / HTTP/1.1\r\n\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: Chunked\r\n\r\n0\r\nSum: 1\r\n\r\nGET / \
             HTTP/1.1\r\n\r\n",
            "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\n\n\nanything",
        ] {
            assert!(passes(text), "{text:?}");
        }
    }

    #[test]
    fn what_could_be_understood_differently_is_refused() {
        for text in [
            "GET / HTTP/1.1\nHost: a\n\n",
            "GET / HTTP/1.1\r\nHost: a\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\n\n",
            "GET / HTTP/1.1\r\nA: b\rc\r\n\r\n",
            "GET / HTTP/1.1\r\nA: b\r\n c\r\n\r\n",
            "GET / HTTP/1.1\r\nA: b\r\n\tc\r\n\r\n",
            "GET / HTTP/1.1\r\n A: b\r\n\r\n",
            "GET / HTTP/1.1\r\nHost : a\r\n\r\n",
            "GET / HTTP/1.1\r\nA b: c\r\n\r\n",
            "GET / HTTP/1.1\r\n: c\r\n\r\n",
            "GET / HTTP/1.1\r\nwithout colon\r\n\r\n",
            "POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\na",
            "POST / HTTP/1.1\r\nContent-Length: 1, 1\r\n\r\na",
            "POST / HTTP/1.1\r\nContent-Length: +1\r\n\r\na",
            "POST / HTTP/1.1\r\nContent-Length: 0x1\r\n\r\na",
            "POST / HTTP/1.1\r\nContent-Length:\r\n\r\na",
            "POST / HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\na",
            "POST / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n0\r\n\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n+3\r\nabc\r\n0\r\n\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0x3\r\nabc\r\n0\r\n\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3 \r\nabc\r\n0\r\n\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\nabc\r\n0\r\n\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n;x\r\nabc\r\n0\r\n\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n00000000000000003\r\nabc\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\nabc\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nSum : 1\r\n\r\n",
            "GET / HTTP/1.1\r\n\r\nPRI * HTTP/2.0\r\n\r\nSM\n",
        ] {
            assert!(!passes(text), "{text:?}");
        }
    }

    #[test]
    fn a_line_without_an_end_is_refused_at_some_length() {
        let mut grammar = Grammar::new();
        let piece = vec![b'a'; 4096];
        let pieces = (0..1000).find(|_| grammar.check(&piece).is_some()).unwrap();
        assert!(pieces <= MAX_LINE / piece.len() + 1, "{pieces}");
        assert!(grammar.line.len() <= MAX_LINE + piece.len());
    }

    #[test]
    fn fuzz_no_bytes_pass_that_continue_after_a_refusal() {
        let corpus = [
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3;a\r\nabc\r\n0\r\nA: b\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabcGET / HTTP/1.1\r\n\r\n",
        ];
        crate::fuzz::hammer(
            &corpus,
            &["\r\n", "\n", "\r", "Content-Length: 3\r\n", "0\r\n"],
            |text| {
                let mut grammar = Grammar::new();
                if let Some(place) = grammar.check(text) {
                    assert!(place < text.len());
                    grammar.next = Next::Nothing;
                    assert_eq!(grammar.check(b"a"), Some(0));
                }
            },
        );
    }
}
