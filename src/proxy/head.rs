//! Heads of requests and answers: whom a request is for, and which fields pass.

use std::net::{IpAddr, SocketAddr};

use hyper::body::Bytes;
use hyper::header::{
    CONNECTION, CONTENT_LENGTH, COOKIE, FORWARDED, HOST, HeaderName, HeaderValue, TE,
    TRANSFER_ENCODING, UPGRADE,
};
use hyper::http::request;
use hyper::{HeaderMap, Request, Uri, Version};

use crate::config;

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// Why a request is not passed on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// It names no host, or several; what is wrong.
    Malformed(&'static str),
    /// It is for another host.
    Foreign(String),
}

/// Returns the host that a request is for, with the port if it names one.
///
/// # Errors
///
/// It names none, more than one, or two that differ.
pub(super) fn host_of(parts: &request::Parts) -> Result<String, Refusal> {
    let mut fields = parts.headers.get_all(HOST).iter();
    let field = match (fields.next(), fields.next()) {
        (Some(field), None) => {
            Some(field.to_str().map_err(|_| Refusal::Malformed("Host is not ASCII"))?)
        }
        (None, _) => None,
        (Some(_), Some(_)) => return Err(Refusal::Malformed("more than one Host")),
    };
    let authority = parts.uri.authority().map(hyper::http::uri::Authority::as_str);
    match (field, authority) {
        (Some(field), Some(authority)) if !field.eq_ignore_ascii_case(authority) => {
            Err(Refusal::Malformed("Host differs from the URL"))
        }
        (Some(host), _) | (None, Some(host)) => Ok(host.to_owned()),
        (None, None) if parts.version == Version::HTTP_10 => Ok(String::new()),
        (None, None) => Err(Refusal::Malformed("Host is missing")),
    }
}

/// Which hosts requests may be for.
#[derive(Debug)]
pub(super) struct Hosts {
    /// In lower case; `*.` at the beginning stands for any labels.
    names: Vec<String>,
    bind: config::Bind,
    /// The name of this machine, where it can be reached from others.
    machine: Option<String>,
}

impl Hosts {
    pub(super) fn new(config: &config::Proxy) -> Self {
        let is_open =
            matches!(config.bind, config::Bind::Address(address) if address.is_unspecified());
        let machine = || nix::unistd::gethostname().ok()?.into_string().ok();
        let machine = is_open.then(machine).flatten().map(|name| name.to_ascii_lowercase());
        Self { names: config.hosts.clone(), bind: config.bind, machine }
    }

    /// Checks that a request for this host, as its `Host` has it, is for this proxy. A page of
    /// another site that makes its own name lead here (DNS rebinding) is refused.
    pub(super) fn check(&self, host: &str) -> Result<(), Refusal> {
        // Clients before HTTP/1.1 name none, and browsers are not among them.
        if host.is_empty() || self.is_own(host) {
            return Ok(());
        }
        Err(Refusal::Foreign(host.to_owned()))
    }

    fn is_own(&self, host: &str) -> bool {
        let Some(name) = without_port(host) else { return false };
        if name == "localhost" {
            return true;
        }
        let name = name.to_ascii_lowercase();
        let name = name.strip_suffix('.').unwrap_or(&name);
        if let Ok(address) = name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
            return self.is_own_address(address) || self.is_named(name);
        }
        let is_machine = self.machine.as_ref().is_some_and(|machine| {
            name == machine || name.strip_suffix(".local") == Some(machine.as_str())
        });
        name == "localhost" || name.ends_with(".localhost") || is_machine || self.is_named(name)
    }

    fn is_named(&self, name: &str) -> bool {
        self.names.iter().any(|own| match own.strip_prefix('*') {
            Some(domain) => name.len() > domain.len() && name.ends_with(domain),
            None => name == own,
        })
    }

    fn is_own_address(&self, address: IpAddr) -> bool {
        let config::Bind::Address(bind) = self.bind else { return address.is_loopback() };
        address.is_loopback()
            || address == bind
            || bind.is_unspecified() && addresses().any(|own| own == address)
    }
}

/// The addresses of this machine now.
fn addresses() -> impl Iterator<Item = IpAddr> {
    let all = nix::ifaddrs::getifaddrs().into_iter().flatten();
    all.filter_map(|one| {
        let address = one.address?;
        let v4 = address.as_sockaddr_in().map(|v4| IpAddr::from(v4.ip()));
        v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::from(v6.ip())))
    })
}

/// Returns a host without its port; `None` if it is malformed.
pub(super) fn without_port(host: &str) -> Option<&str> {
    let name_end = if host.starts_with('[') {
        host.find(']')? + 1
    } else {
        host.find(':').unwrap_or(host.len())
    };
    let (name, port) = host.split_at(name_end);
    let is_port = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit());
    let is_good = port.is_empty() || port.strip_prefix(':').is_some_and(is_port);
    (is_good && !name.is_empty()).then_some(name)
}

/// Where a request comes from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Client {
    pub(super) address: SocketAddr,
    pub(super) is_tls: bool,
}

/// Makes the head of a client's request that of one for the program. `host`: whom it is for.
/// Returns the protocol that the client wants to upgrade to, if it does.
pub(super) fn for_program(
    parts: &mut request::Parts,
    client: Client,
    host: &str,
) -> Option<HeaderValue> {
    let upgrade = upgrade_of(&parts.headers, parts.version);
    let trailers = has_token(&parts.headers, &TE, "trailers");
    remove_hop_by_hop(&mut parts.headers);
    if parts.version == Version::HTTP_2 {
        join_cookies(&mut parts.headers);
    }
    // HTTP/1.1 demands the field, even of a client of HTTP/1.0 that has named no host.
    if !parts.headers.contains_key(HOST)
        && let Ok(value) = HeaderValue::from_str(host)
    {
        parts.headers.insert(HOST, value);
    }
    if trailers {
        parts.headers.insert(TE, HeaderValue::from_static("trailers"));
    }
    if let Some(protocol) = &upgrade {
        parts.headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        parts.headers.insert(UPGRADE, protocol.clone());
    }
    add_forwarded(&mut parts.headers, client, host);
    let path = parts.uri.path_and_query().map_or("/", hyper::http::uri::PathAndQuery::as_str);
    // An absolute URL becomes a path. Every path was a part of a URL.
    if parts.uri.authority().is_some()
        && let Ok(uri) = path.parse::<Uri>()
    {
        parts.uri = uri;
    }
    parts.version = Version::HTTP_11;
    upgrade
}

/// Makes the head of a program's answer that of one for the client.
pub(super) fn for_client(headers: &mut HeaderMap) {
    // The length of an answer in chunks is where they end, whatever this says (RFC 9112, 6.3).
    if headers.contains_key(TRANSFER_ENCODING) {
        headers.remove(CONTENT_LENGTH);
    }
    remove_hop_by_hop(headers);
}

/// A copy of a head, in which the names of fields are in lower case.
pub(super) fn for_another_time(parts: &request::Parts) -> request::Parts {
    let (mut copy, ()) = Request::new(()).into_parts();
    copy.method = parts.method.clone();
    copy.uri = parts.uri.clone();
    copy.headers = parts.headers.clone();
    copy
}

/// The protocol that a message asks to upgrade to, or upgrades to.
pub(super) fn upgrade_of(headers: &HeaderMap, version: Version) -> Option<HeaderValue> {
    let is_meant = version == Version::HTTP_11 && has_token(headers, &CONNECTION, "upgrade");
    headers.get(UPGRADE).filter(|_| is_meant).cloned()
}

/// The fields that concern only one connection (RFC 9110, 7.6.1), beside those that `Connection`
/// names.
const HOP_BY_HOP: [HeaderName; 6] =
    [CONNECTION, KEEP_ALIVE, PROXY_CONNECTION, TE, TRANSFER_ENCODING, UPGRADE];

/// Removes the fields that concern only one connection. The order of the others is kept.
fn remove_hop_by_hop(headers: &mut HeaderMap) {
    if HOP_BY_HOP.iter().any(|name| headers.contains_key(name)) {
        *headers = without_hop_by_hop(std::mem::take(headers));
    }
}

fn without_hop_by_hop(headers: HeaderMap) -> HeaderMap {
    let named: Vec<HeaderName> =
        tokens(&headers, &CONNECTION).filter_map(|one| one.parse().ok()).collect();
    // These belong to the message, whatever a client says.
    let stays = [CONTENT_LENGTH, HOST];
    let goes = |name: &HeaderName| {
        HOP_BY_HOP.contains(name) || named.contains(name) && !stays.contains(name)
    };
    let mut kept = HeaderMap::with_capacity(headers.len() + 4);
    let mut last = None;
    for (name, value) in headers {
        // A field that occurs again comes without its name.
        let Some(name) = name.or(last) else { return kept };
        if !goes(&name) {
            kept.append(&name, value);
        }
        last = Some(name);
    }
    kept
}

/// The items of a field that is a list, in all its lines.
fn tokens<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    let lines = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    lines.flat_map(|line| line.split(',')).map(str::trim)
}

fn has_token(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    tokens(headers, name).any(|one| one.eq_ignore_ascii_case(token))
}

/// In HTTP/2 each cookie may be a field of its own.
fn join_cookies(headers: &mut HeaderMap) {
    let all: Vec<&[u8]> = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if all.len() > 1
        && let Ok(joined) = HeaderValue::from_bytes(&all.join(&b"; "[..]))
    {
        headers.insert(COOKIE, joined);
    }
}

/// Adds where a request comes from, as reverse proxies do. What proxies before this one have said
/// stays.
fn add_forwarded(headers: &mut HeaderMap, client: Client, host: &str) {
    let proto = if client.is_tls { "https" } else { "http" };
    let ip = client.address.ip().to_canonical();
    append(headers, &FORWARDED_FOR, &ip.to_string());
    if !headers.contains_key(FORWARDED_PROTO) {
        headers.insert(FORWARDED_PROTO, HeaderValue::from_static(proto));
    }
    if !headers.contains_key(FORWARDED_HOST)
        && let Some(value) = headers.get(HOST).filter(|host| !host.is_empty()).cloned()
    {
        headers.insert(FORWARDED_HOST, value);
    }
    let node = if ip.is_ipv6() { format!("\"[{ip}]\"") } else { ip.to_string() };
    let host = if host.is_empty() { String::new() } else { format!(";host={}", quoted(host)) };
    append(headers, &FORWARDED, &format!("for={node}{host};proto={proto}"));
}

/// Quotes a value of `Forwarded` unless it is a token (RFC 7239, 4).
fn quoted(value: &str) -> String {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if value.bytes().all(is_token) {
        return value.to_owned();
    }
    format!("\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\""))
}

/// Appends an item to a field that is a list.
fn append(headers: &mut HeaderMap, name: &HeaderName, item: &str) {
    let joined = if headers.contains_key(name) {
        let before = headers.get_all(name).iter().map(HeaderValue::as_bytes);
        let all: Vec<&[u8]> = before.chain([item.as_bytes()]).collect();
        all.join(&b", "[..]).into()
    } else {
        Bytes::copy_from_slice(item.as_bytes())
    };
    if let Ok(joined) = HeaderValue::from_maybe_shared(joined) {
        headers.insert(name, joined);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::Request;

    fn parts(text: &[(&str, &str)]) -> request::Parts {
        let mut builder = Request::get("/a%2Fb//c;d?");
        for (name, value) in text {
            builder = builder.header(*name, *value);
        }
        builder.body(()).unwrap().into_parts().0
    }

    fn client() -> Client {
        Client { address: "127.0.0.1:4000".parse().unwrap(), is_tls: false }
    }

    fn hosts(bind: config::Bind, names: &[&str]) -> Hosts {
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        Hosts { names, bind, machine: None }
    }

    #[test]
    fn only_hosts_of_its_own_are_accepted() {
        let names = ["dev.example", "*.ngrok.app", "10.9.9.9"];
        let loopback = hosts(config::Bind::Loopback, &names);
        for host in [
            "localhost",
            "LOCALHOST:8080",
            "localhost.",
            "app.localhost:1",
            "127.0.0.1:8080",
            "127.1.2.3",
            "[::1]:8080",
            "[::1]",
            "dev.example",
            "Dev.Example:80",
            "abc.ngrok.app",
            "a.b.ngrok.app",
            "10.9.9.9:8080",
            "",
        ] {
            assert_eq!(loopback.check(host), Ok(()), "{host}");
        }
        for host in [
            "evil.example",
            "notlocalhost",
            "localhost.evil.example",
            "a.dev.example",
            "ngrok.app",
            "evilngrok.app",
            "10.0.0.1",
            "0.0.0.0",
            "[::2]",
            "localhost:80:80",
            "localhost:x",
            "[::1",
            ":80",
            "localhost@evil.example",
        ] {
            assert!(loopback.check(host).is_err(), "{host}");
        }
        let one = hosts(config::Bind::Address("10.0.0.1".parse().unwrap()), &[]);
        assert_eq!(one.check("10.0.0.1:80"), Ok(()));
        assert!(one.check("10.0.0.2:80").is_err());
        let mut all = hosts(config::Bind::Address("0.0.0.0".parse().unwrap()), &[]);
        for own in addresses() {
            let host = if own.is_ipv6() { format!("[{own}]:1") } else { format!("{own}:1") };
            assert_eq!(all.check(&host), Ok(()));
        }
        assert!(all.check("192.0.2.1").is_err(), "no machine has it");
        all.machine = Some("box".to_owned());
        assert!(all.check("box:80").is_ok() && all.check("box.local").is_ok());
    }

    #[test]
    fn a_request_is_for_one_host() {
        let of = |fields: &[(&str, &str)]| host_of(&parts(fields));
        assert_eq!(of(&[("Host", "a:1")]), Ok("a:1".to_owned()));
        assert!(of(&[]).is_err());
        assert!(of(&[("Host", "a"), ("Host", "a")]).is_err());
        let mut absolute = parts(&[("Host", "a")]);
        absolute.uri = "http://a/x".parse().unwrap();
        assert_eq!(host_of(&absolute), Ok("a".to_owned()));
        absolute.uri = "http://b/x".parse().unwrap();
        assert!(host_of(&absolute).is_err());
    }

    /// The fields in their order.
    fn fields(headers: &HeaderMap) -> Vec<String> {
        headers.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect()
    }

    #[test]
    fn only_what_concerns_one_connection_is_removed_and_the_order_is_kept() {
        let mut parts = parts(&[
            ("Host", "localhost:1"),
            ("Connection", "keep-alive, X-Own, Content-Length"),
            ("Keep-Alive", "timeout=5"),
            ("Accept", "a"),
            ("X-Own", "x"),
            ("Content-Length", "5"),
            ("TE", "gzip, trailers"),
            ("Proxy-Connection", "close"),
            ("Accept", "b"),
            ("Upgrade", "h2c"),
            ("X-Last", "z"),
        ]);
        assert_eq!(for_program(&mut parts, client(), "localhost:1"), None);
        assert_eq!(
            fields(&parts.headers),
            [
                "host: localhost:1",
                "accept: a",
                "accept: b",
                "content-length: 5",
                "x-last: z",
                "te: trailers",
                "x-forwarded-for: 127.0.0.1",
                "x-forwarded-proto: http",
                "x-forwarded-host: localhost:1",
                "forwarded: for=127.0.0.1;host=\"localhost:1\";proto=http",
            ]
        );
        assert_eq!(parts.uri.to_string(), "/a%2Fb//c;d?");
    }

    #[test]
    fn what_proxies_before_have_said_is_continued() {
        let mut parts = parts(&[
            ("Host", "a.ngrok.app"),
            ("X-Forwarded-For", "1.2.3.4"),
            ("X-Forwarded-For", "5.6.7.8"),
            ("X-Forwarded-Proto", "https"),
            ("X-Forwarded-Host", "b"),
            ("Forwarded", "for=1.2.3.4"),
        ]);
        let client = Client { address: "[::1]:1".parse().unwrap(), is_tls: true };
        for_program(&mut parts, client, "a.ngrok.app");
        assert_eq!(
            fields(&parts.headers),
            [
                "host: a.ngrok.app",
                "x-forwarded-for: 1.2.3.4, 5.6.7.8, ::1",
                "x-forwarded-proto: https",
                "x-forwarded-host: b",
                "forwarded: for=1.2.3.4, for=\"[::1]\";host=a.ngrok.app;proto=https",
            ]
        );
    }

    #[test]
    fn an_upgrade_is_passed_on_as_one() {
        let mut parts = parts(&[
            ("Host", "a"),
            ("Connection", "keep-alive, Upgrade"),
            ("Upgrade", "websocket"),
        ]);
        let upgrade = for_program(&mut parts, client(), "a");
        assert_eq!(upgrade, Some(HeaderValue::from_static("websocket")));
        let fields = fields(&parts.headers);
        assert!(fields.contains(&"connection: Upgrade".to_owned()), "{fields:?}");
        assert!(fields.contains(&"upgrade: websocket".to_owned()), "{fields:?}");
    }

    #[test]
    fn cookies_of_http_2_become_one_field() {
        let mut parts = parts(&[("cookie", "a=1"), ("cookie", "b=2")]);
        parts.version = Version::HTTP_2;
        for_program(&mut parts, client(), "localhost");
        let fields = fields(&parts.headers);
        assert!(fields.contains(&"cookie: a=1; b=2".to_owned()), "{fields:?}");
        assert!(fields.contains(&"host: localhost".to_owned()), "{fields:?}");
    }
}
