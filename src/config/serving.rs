//! How a program is reached, and how it is known to serve: `[[listen]]` and `[ready]`.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use regex::bytes::Regex;

use super::absolute;
use super::document::NumberOrText;
use super::resolve::Resolver;
use crate::error::{Error, Result};

/// The deadline for a program to become ready.
const TIMEOUT: Duration = Duration::from_secs(30);
/// More sockets than this are not handed to a program. (With its standard streams that makes
/// 64; the kernel passes 253 descriptors at once.)
pub const MOST_LISTENERS: usize = 61;
/// The longest path that a Unix socket can have, in bytes.
const LONGEST_PATH: usize = 107;

const ADDRESS: &str = "a port, \"HOST:PORT\", \"unix:PATH\" or \"udp:HOST:PORT\", HOST being an IP \
                       address, localhost, or nothing for all addresses";
const NAME: &str = "a name of letters, digits, dots, dashes and underscores";
const URL: &str = "a URL such as \"http://127.0.0.1:9000/health\"";
const TARGET: &str = "a port, or \"HOST:PORT\"";
const STATUS: &str = "a status code from 100 to 599";

/// A socket that hotrun owns, and that every generation inherits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listen {
    /// What it is bound to.
    pub address: Address,
    /// Distinguishes it from others for the program.
    pub name: Option<String>,
}

/// What a socket is bound to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Address {
    /// For connections over TCP.
    Tcp(SocketAddr),
    /// For datagrams.
    Udp(SocketAddr),
    /// For connections by a file, whose path is absolute.
    Unix(PathBuf),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Tcp(address) => address.fmt(f),
            Address::Udp(address) => write!(f, "udp:{address}"),
            Address::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl Address {
    /// Two such sockets cannot both be open.
    pub fn clashes_with(&self, other: &Self) -> bool {
        match (self, other) {
            (Address::Tcp(one), Address::Tcp(other)) | (Address::Udp(one), Address::Udp(other)) => {
                // `[::]` takes connections to addresses of both kinds.
                let holds = |one: &SocketAddr, other: &SocketAddr| {
                    one.ip().is_unspecified() && (one.is_ipv6() || other.is_ipv4())
                };
                let is_same = one.ip() == other.ip() || holds(one, other) || holds(other, one);
                one.port() == other.port() && one.port() != 0 && is_same
            }
            (one, other) => one == other,
        }
    }

    /// The TCP port, if it is one.
    pub fn port(&self) -> Option<u16> {
        match self {
            Address::Tcp(address) => Some(address.port()),
            _ => None,
        }
    }
}

/// When a program counts as serving: every check must pass. Without any, see
/// [`ready`](crate::ready).
#[derive(Clone, Debug)]
pub struct Ready {
    /// It has sent `READY=1`. `None`: it is not configured whether it will.
    pub notify: Option<bool>,
    /// This is answered well.
    pub http: Option<Http>,
    /// This can be connected to.
    pub tcp: Option<Target>,
    /// It has printed a line that this is found in.
    pub log: Option<Regex>,
    /// It has run for this long.
    pub after: Option<Duration>,
    /// Maximum time to become ready.
    pub timeout: Duration,
}

impl Ready {
    /// Whether there is anything to wait for.
    pub fn is_configured(&self) -> bool {
        let waits = self.http.is_some() || self.tcp.is_some() || self.log.is_some();
        self.notify == Some(true) || waits || self.after.is_some()
    }
}

impl PartialEq for Ready {
    fn eq(&self, other: &Self) -> bool {
        let log = |ready: &Self| ready.log.as_ref().map(|log| log.as_str().to_owned());
        self.notify == other.notify
            && self.http == other.http
            && self.tcp == other.tcp
            && log(self) == log(other)
            && self.after == other.after
            && self.timeout == other.timeout
    }
}

/// A page to request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Http {
    /// The server.
    pub target: Target,
    /// The path, with its query.
    pub path: String,
    /// The status of a good answer; `None`: any below 400.
    pub status: Option<u16>,
}

impl fmt::Display for Http {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}{}", self.target, self.path)
    }
}

/// A place that can be connected to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// A name or an IP address.
    pub host: String,
    /// The port.
    pub port: u16,
}

impl Target {
    /// `HOST:PORT`, `[IPV6]:PORT`, or with a default port only the host.
    fn parse(text: &str, default_port: Option<u16>) -> Option<Self> {
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) if !host.ends_with(':') && !port.contains(']') => {
                (host, Some(port.parse().ok()?))
            }
            _ => (text, default_port),
        };
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let is_name = !host.is_empty() && !host.contains(['/', '@', '[', ']', ' ']);
        let port = port.filter(|port| *port != 0)?;
        is_name.then(|| Self { host: host.to_owned(), port })
    }

    /// True for an address of this machine.
    pub fn is_local(&self) -> bool {
        let is_loopback = |address: IpAddr| address.is_loopback() || address.is_unspecified();
        self.host == "localhost" || self.host.parse().is_ok_and(is_loopback)
    }

    /// True if a connection to this target may reach a listener on this address.
    pub(super) fn leads_to(&self, address: SocketAddr) -> bool {
        let is_host = match self.host.parse::<IpAddr>() {
            Ok(host) => host == address.ip() || host.is_unspecified() && address.ip().is_loopback(),
            Err(_) => self.host == "localhost" && address.ip().is_loopback(),
        };
        self.port == address.port() && (is_host || self.is_local() && address.ip().is_unspecified())
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl Resolver<'_> {
    /// The command line's sockets, or else those of the file.
    pub(super) fn listen(&self) -> Result<Vec<Listen>> {
        let of_file = self.listen_of_file()?;
        let Some(options) = self.document.options("listen") else { return Ok(of_file) };
        let mut all = Vec::new();
        for option in options {
            let wrong = |reason: String| Error::usage(format!("--listen {option}"), reason);
            let (name, address) = match option.split_once('=') {
                Some((name, address)) if is_name(name) => (Some(name.to_owned()), address),
                _ => (None, option.as_str()),
            };
            let address = self.address(address).ok_or_else(|| {
                wrong(format!("expected {ADDRESS}"))
                    .remedy("--listen 8080, or with a name: --listen api=127.0.0.1:8080")
            })?;
            add(&mut all, Listen { address, name }, |_, reason| wrong(reason))?;
        }
        Ok(all)
    }

    fn listen_of_file(&self) -> Result<Vec<Listen>> {
        let mut all = Vec::new();
        for table in self.document.tables("listen")? {
            let written = match table.number_or_text("address", ADDRESS)? {
                None => {
                    return Err(table
                        .incomplete("a [[listen]] without an address")
                        .remedy("add one, for example address = 8080"));
                }
                Some(NumberOrText::Number(port)) => port.to_string(),
                Some(NumberOrText::Text(text)) => text,
            };
            let address = self.address(&written).ok_or_else(|| table.wrong("address", ADDRESS))?;
            let name = table.text("name")?;
            if name.as_ref().is_some_and(|name| !is_name(name)) {
                return Err(table.wrong("name", NAME));
            }
            add(&mut all, Listen { address, name }, |key, reason| table.refused(key, reason))?;
        }
        Ok(all)
    }

    fn address(&self, text: &str) -> Option<Address> {
        let text = text.trim();
        if let Some(path) = text.strip_prefix("unix:") {
            return unix_path(path, &self.options.directory).map(Address::Unix);
        }
        if let Some(rest) = text.strip_prefix("udp:") {
            return socket_address(rest).map(Address::Udp);
        }
        socket_address(text.strip_prefix("tcp:").unwrap_or(text)).map(Address::Tcp)
    }

    /// `listen` are the sockets that hotrun itself owns.
    pub(super) fn ready(&self, listen: &[Listen]) -> Result<Ready> {
        let document = self.document;
        let status = document.number("ready.status", STATUS)?;
        let status = status
            .filter(|status| *status != 0)
            .map(|status| match u16::try_from(status) {
                Ok(status @ 100..=599) => Ok(status),
                _ => Err(document.wrong("ready.status", STATUS)),
            })
            .transpose()?;
        let http = self.string("ready.http")?;
        if status.is_some() && http.is_none() {
            return Err(document.wrong("ready.status", "ready.http beside it"));
        }
        let http = http.map(|url| self.http(&url, status)).transpose()?;
        let tcp = self.tcp()?;
        let targets =
            [("ready.http", http.as_ref().map(|http| &http.target)), ("ready.tcp", tcp.as_ref())];
        for (key, target) in targets {
            let Some(target) = target else { continue };
            for one in listen {
                if let Address::Tcp(address) = one.address
                    && target.leads_to(address)
                {
                    let held = format!(
                        "another address than {address}, where hotrun itself listens: the old \
                         program may answer there"
                    );
                    return Err(document.wrong(key, held).remedy(
                        "notify = true (the program sends READY=1), log, after, or a port of the \
                         program's own",
                    ));
                }
            }
        }
        let log = self.string("ready.log")?;
        let log = log.map(|text| {
            Regex::new(&text).map_err(|error| {
                let reason = error.to_string();
                let last = reason.lines().last().unwrap_or_default().trim();
                document.wrong("ready.log", format!("a regular expression ({last})"))
            })
        });
        let after = self.duration("ready.after", Duration::ZERO)?;
        let after = Some(after).filter(|after| !after.is_zero());
        let timeout = self.duration("ready.timeout", TIMEOUT)?;
        if timeout.is_zero() || after.is_some_and(|after| after >= timeout) {
            let expected = "a duration longer than 0 and than ready.after";
            return Err(document.wrong("ready.timeout", expected));
        }
        let notify = document.boolean("ready.notify")?;
        Ok(Ready { notify, http, tcp, log: log.transpose()?, after, timeout })
    }

    fn tcp(&self) -> Result<Option<Target>> {
        let key = "ready.tcp";
        let target = match self.document.number_or_text(key, TARGET)? {
            None => return Ok(None),
            Some(NumberOrText::Text(text)) if text.is_empty() => return Ok(None),
            Some(NumberOrText::Text(text)) => {
                let port = text.parse::<u16>().ok();
                Target::parse(&port.map_or(text, |port| format!("127.0.0.1:{port}")), None)
            }
            Some(NumberOrText::Number(port)) => Target::parse(&format!("127.0.0.1:{port}"), None),
        };
        target.map(Some).ok_or_else(|| self.document.wrong(key, TARGET))
    }

    fn http(&self, url: &str, status: Option<u16>) -> Result<Http> {
        let Some(rest) = url.strip_prefix("http://") else {
            let wrong = self.document.wrong("ready.http", URL);
            return Err(if url.starts_with("https:") {
                wrong.remedy("TLS is not supported: use ready.tcp, notify or log")
            } else {
                wrong
            });
        };
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (place, path) = rest.split_at(end);
        let path = path.split('#').next().unwrap_or_default();
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        let is_clean = path.bytes().all(|byte| byte.is_ascii_graphic());
        let target = Target::parse(place, Some(80)).filter(|_| is_clean);
        let target = target.ok_or_else(|| self.document.wrong("ready.http", URL))?;
        Ok(Http { target, path, status })
    }
}

/// Adds a socket, which must have another address than those before, and another name. `wrong`
/// makes the error for one of its keys.
fn add(all: &mut Vec<Listen>, one: Listen, wrong: impl Fn(&str, String) -> Error) -> Result<()> {
    let duplicate = "remove one of the two, or change one of them";
    if let Some(other) = all.iter().find(|other| other.address.clashes_with(&one.address)) {
        let why = format!("another listener already has the address {}", other.address);
        return Err(wrong("address", why).remedy(duplicate));
    }
    if let Some(name) = &one.name
        && all.iter().any(|other| other.name.as_ref() == Some(name))
    {
        let why = format!("another listener already has the name {name:?}");
        return Err(wrong("name", why).remedy(duplicate));
    }
    if all.len() == MOST_LISTENERS {
        let why = format!("more than {MOST_LISTENERS} listeners");
        return Err(wrong("address", why).remedy("remove this one"));
    }
    all.push(one);
    Ok(())
}

/// True for a name that fits into `LISTEN_FDNAMES` and before `=` in an option.
fn is_name(text: &str) -> bool {
    let is_one = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    !text.is_empty() && text.len() <= 255 && text.chars().all(is_one)
}

/// The path of a Unix socket; `None` if it can be none.
pub(super) fn unix_path(written: &str, directory: &Path) -> Option<PathBuf> {
    let is_named = !written.is_empty() && !written.starts_with('@') && !written.ends_with('/');
    let path = absolute(directory, written.as_ref());
    (is_named && path.as_os_str().len() <= LONGEST_PATH).then_some(path)
}

/// A bare port and `localhost` mean 127.0.0.1, as one socket has one address; no host before
/// the colon means all addresses, as in Go.
fn socket_address(text: &str) -> Option<SocketAddr> {
    if let Ok(port) = text.parse() {
        return Some(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port));
    }
    if let Ok(address) = text.parse() {
        return Some(address);
    }
    let (host, port) = text.rsplit_once(':')?;
    let host = match host {
        "localhost" => Ipv4Addr::LOCALHOST,
        "" | "*" => Ipv4Addr::UNSPECIFIED,
        _ => return None,
    };
    Some(SocketAddr::new(host.into(), port.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::super::tests::resolve;
    use super::*;

    fn listen(text: &str) -> Result<Vec<String>> {
        let config = resolve("hotrun.toml", &format!("[build]\nfull_bin = \"x\"\n{text}"))?;
        let name =
            |one: &Listen| one.name.as_ref().map(|name| format!("{name}=")).unwrap_or_default();
        Ok(config
            .only()
            .recipe
            .listen
            .iter()
            .map(|one| format!("{}{}", name(one), one.address))
            .collect())
    }

    fn address(written: &str) -> String {
        match listen(&format!("[[listen]]\naddress = {written}\n")) {
            Ok(all) => all.join(" "),
            Err(error) => {
                assert!(error.to_string().contains("expected a port, \"HOST:PORT\""), "{error}");
                "wrong".to_owned()
            }
        }
    }

    #[test]
    fn an_address_is_a_port_a_host_with_a_port_or_a_path() {
        assert_eq!(address("8080"), "127.0.0.1:8080");
        assert_eq!(address("\"8080\""), "127.0.0.1:8080");
        assert_eq!(address("\"localhost:8080\""), "127.0.0.1:8080");
        assert_eq!(address("\"tcp:8080\""), "127.0.0.1:8080");
        assert_eq!(address("\"[::1]:8080\""), "[::1]:8080");
        assert_eq!(address("\":8080\""), "0.0.0.0:8080");
        assert_eq!(address("\"udp:5353\""), "udp:127.0.0.1:5353");
        assert_eq!(address("\"unix:/tmp/x.sock\""), "unix:/tmp/x.sock");
        for wrong in [
            "70000",
            "-1",
            "true",
            "\"\"",
            "\"example.com:80\"",
            "\"127.0.0.1\"",
            "\"1.2.3.4:x\"",
            "\"unix:\"",
            "\"unix:/tmp/\"",
            "\"udp:\"",
        ] {
            assert_eq!(address(wrong), "wrong", "{wrong}");
        }
        let long = format!("\"unix:/{}\"", "x".repeat(200));
        assert_eq!(address(&long), "wrong");
    }

    #[test]
    fn two_listeners_of_one_name_or_address_are_an_error_that_names_the_place() {
        let two = |first: &str, second: &str| {
            listen(&format!("[[listen]]\n{first}\n[[listen]]\n{second}\n")).unwrap_err().to_string()
        };
        let error = two("address = 1\nname = \"a\"", "address = 2\nname = \"a\"");
        assert!(
            error.starts_with("hotrun.toml:8:8: name = \"a\": another listener already has"),
            "{error}"
        );
        let error = two("address = 80", "address = \"localhost:80\"");
        assert!(
            error.starts_with("hotrun.toml:6:11: address = \"localhost:80\": another"),
            "{error}"
        );
        let error = two("address = 1", "name = \"b\"");
        assert!(error.starts_with("hotrun.toml:5:1: a [[listen]] without an address"), "{error}");
        let error = listen("[[listen]]\naddress = 1\nname = \"a:b\"\n").unwrap_err().to_string();
        assert!(error.contains("name = \"a:b\": expected a name of letters"), "{error}");
        let error = listen("[listen]\naddress = 1\n").unwrap_err().to_string();
        assert!(error.contains("expected tables, each under [[listen]]"), "{error}");
    }

    fn ready(text: &str) -> std::result::Result<Ready, String> {
        let text =
            format!("[build]\nfull_bin = \"x\"\n[[listen]]\naddress = 8080\n[ready]\n{text}");
        resolve("hotrun.toml", &text)
            .map(|config| config.only().recipe.ready.clone())
            .map_err(|error| error.to_string())
    }

    #[test]
    fn what_to_wait_for_is_read() {
        assert!(!ready("").unwrap().is_configured());
        assert!(!ready("notify = false").unwrap().is_configured());
        assert!(ready("notify = true").unwrap().is_configured());
        let all = ready("http = \"http://[::1]:9000/a?b#c\"\nstatus = 204\ntcp = \"db:5432\"\nlog = \"up|on\"\nafter = \"50ms\"").unwrap();
        assert_eq!(all.http.unwrap().to_string(), "http://[::1]:9000/a?b");
        assert_eq!(all.tcp.unwrap().to_string(), "db:5432");
        assert_eq!(all.after, Some(Duration::from_millis(50)));
        assert_eq!(ready("tcp = 9000").unwrap().tcp.unwrap().to_string(), "127.0.0.1:9000");
        assert_eq!(ready("http = \"http://x\"").unwrap().http.unwrap().to_string(), "http://x:80/");
    }

    #[test]
    fn what_can_never_be_ready_or_proves_nothing_is_an_error() {
        for (text, expected) in [
            ("http = \"http://127.0.0.1:8080/\"", "another address than 127.0.0.1:8080"),
            ("http = \"http://localhost:8080/\"", "another address than 127.0.0.1:8080"),
            ("tcp = 8080", "another address than 127.0.0.1:8080"),
            ("http = \"https://x/\"", "TLS is not supported"),
            ("http = \"x\"", "a URL such as"),
            ("http = \"http://:80/\"", "a URL such as"),
            ("http = \"http://a b/\"", "a URL such as"),
            ("tcp = \"x\"", "a port, or \"HOST:PORT\""),
            ("tcp = 0", "a port, or \"HOST:PORT\""),
            ("log = \"(\"", "a regular expression (error: unclosed group)"),
            ("status = 200", "ready.http beside it"),
            ("http = \"http://x/\"\nstatus = 42", "a status code"),
            ("timeout = 0", "a duration longer than 0"),
            ("after = \"40s\"", "a duration longer than 0 and than ready.after"),
        ] {
            let error = ready(text).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
