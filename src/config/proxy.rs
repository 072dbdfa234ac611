//! `[proxy]`: a reverse proxy in front of the program, and where the program is behind it.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::document::NumberOrText;
use super::resolve::Resolver;
use super::serving::{Address, Listen, Ready, unix_path};
use super::{Port, Run, absolute, keys};
use crate::error::{Error, Result};

/// Maximum time that a request waits, unless it is configured.
const HOLD: Duration = Duration::from_secs(30);
/// Maximum length of a host name, and of one of its labels, in bytes (RFC 1035, section 2.3.4).
const MAX_HOST: usize = 253;
const MAX_LABEL: usize = 63;

/// The name of the command line's option, under which it is in the document.
const OPTION: &str = "proxy";
const PROXY_PORT: &str = "proxy.proxy_port";
const APP_PORT: &str = "proxy.app_port";
const APP: &str = "proxy.app";
const ROUTES: &str = "proxy.routes";
const TLS: &str = "proxy.tls";
/// Keys that have no effect while the proxy is off. (The program's port has one in any case.)
const DEPENDENT: [&str; 7] =
    [APP, "proxy.bind", "proxy.hold", "proxy.drain", TLS, "proxy.hosts", ROUTES];

const A_PORT: &str = "a port from 1 to 65535";
const AN_APP_PORT: &str = "a port from 1 to 65535, or 0 for a free one";
const AN_APP: &str = "a port, or \"unix:PATH\"";
const BIND: &str = "\"localhost\", or an IP address: \"0.0.0.0\" for all addresses of this machine";
const OPTION_FORM: &str = "PORT, PORT:PROGRAM-PORT or PORT:unix:PATH";
const FILES: &str = "true, or { cert = \"FILE\", key = \"FILE\" }";
const PREFIX: &str = "a path that begins with / and has no blanks, ? or #";
const HOST: &str = "a host name, or \"*.\" and a host name, without scheme, port and path";

/// `[proxy]`: where browsers connect, and where the program is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proxy {
    /// Port it listens on.
    pub port: u16,
    /// Address it listens on.
    pub bind: Bind,
    /// Maximum time that a request waits for a program that is ready.
    pub hold: Duration,
    /// Maximum time for requests under way to end before their program is stopped; `None`: the
    /// grace period (`kill_delay`).
    pub drain: Option<Duration>,
    /// Whether browsers connect by TLS, and with which certificate.
    pub tls: Option<Tls>,
    /// Names other than loopback names that requests may be for, in lower case. `*.` at the
    /// beginning stands for any labels.
    pub hosts: Vec<String>,
    /// Path prefixes with the ports that they go to, the longest first. `/`, which names the port of
    /// the program, is one of them if it is configured.
    pub routes: Vec<Route>,
    /// Whether answers carry header fields about hotrun.
    pub debug_headers: bool,
}

/// Address that the proxy listens on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bind {
    /// `127.0.0.1` and `::1`.
    Loopback,
    /// This address alone.
    Address(IpAddr),
}

/// Certificate of the proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tls {
    /// One that hotrun makes.
    Own,
    /// Files in PEM format; absolute.
    Files {
        /// The certificate, and those that it depends on.
        cert: PathBuf,
        /// Its private key.
        key: PathBuf,
    },
}

/// Requests for paths that go to a port of their own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// What their paths begin with.
    pub prefix: String,
    /// Port of this machine that they go to.
    pub port: u16,
}

/// Where the program listens that the proxy is in front of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Upstream {
    /// Nothing is configured: found as for readiness.
    Found,
    /// This port.
    Port(u16),
    /// A free port for each generation, passed in `PORT`.
    Free,
    /// A Unix socket; absolute.
    Unix(PathBuf),
}

/// What the configuration says of the proxy and its program.
pub(super) struct Proxied {
    /// `None`: it is off.
    pub(super) proxy: Option<Proxy>,
    /// `None`: the proxy is off.
    pub(super) upstream: Option<Upstream>,
    /// Port that the program is configured to listen on, whether the proxy is on or off.
    pub(super) app_port: Option<u16>,
}

/// Where the program is, and the key that says so.
type Place = Option<(String, Upstream)>;

impl Resolver<'_> {
    /// Reads `[proxy]` and `--proxy`. Sockets of hotrun's own, and what shows that the program is
    /// ready, must be elsewhere.
    pub(super) fn proxy(&mut self, run: &Run, listen: &[Listen], ready: &Ready) -> Result<Proxied> {
        let option = self.by_option()?;
        let of_file = self.port_of(PROXY_PORT, A_PORT)?.filter(|port| *port != 0);
        let (key, port) = match &option {
            Some((port, _)) => (OPTION, Some(*port)),
            None => (PROXY_PORT, of_file),
        };
        // In air's files a port alone turns nothing on.
        let by_port = port.is_some() && !self.air_mode;
        let is_enabled = self.boolean("proxy.enabled", by_port)? || option.is_some();
        let routes = self.routes()?;
        let place = self.place(option.and_then(|(_, app)| app), &routes)?;
        let proxy = self.proxy_on(port.unwrap_or_default(), routes)?;
        let app_port = match &place {
            Some((_, Upstream::Port(port))) => Some(*port),
            _ => None,
        };
        if !is_enabled {
            self.warn_of_no_port();
            return Ok(Proxied { proxy: None, upstream: None, app_port });
        }
        if port.is_none() {
            let error = self.document.wrong(PROXY_PORT, A_PORT);
            return Err(error.remedy("set the port that browsers connect to: proxy_port = 8080"));
        }
        let upstream = self.beside_run(place, run)?;
        self.check_port(key, &proxy, &upstream)?;
        self.check_sockets(key, &proxy, listen)?;
        self.check_ready(&proxy, ready)?;
        let app_port = match &upstream {
            Upstream::Port(port) => Some(*port),
            Upstream::Found | Upstream::Free | Upstream::Unix(_) => None,
        };
        Ok(Proxied { proxy: Some(proxy), upstream: Some(upstream), app_port })
    }

    /// `--proxy`: the port of the proxy, and where the program is.
    fn by_option(&self) -> Result<Option<(u16, Option<Upstream>)>> {
        let Some(words) = self.document.options(OPTION) else { return Ok(None) };
        let word = words.last().map(String::as_str).unwrap_or_default();
        let wrong = || {
            let error = self.document.wrong(OPTION, OPTION_FORM);
            error.remedy("for a program on port 3000: --proxy 8080:3000")
        };
        let (port, app) = match word.split_once(':') {
            Some((port, app)) => (port, Some(app)),
            None => (word, None),
        };
        let port = port.parse().ok().filter(|port| *port != 0).ok_or_else(wrong)?;
        let app = app.map(|app| self.upstream(app).ok_or_else(wrong)).transpose()?;
        Ok(Some((port, app)))
    }

    /// Reads where the program is: a port, or the path of a Unix socket.
    fn upstream(&self, text: &str) -> Option<Upstream> {
        if let Some(path) = text.trim().strip_prefix("unix:") {
            return unix_path(path, &self.options.directory).map(Upstream::Unix);
        }
        match text.trim().parse().ok()? {
            0 => Some(Upstream::Free),
            port => Some(Upstream::Port(port)),
        }
    }

    /// A port; `None`: it is not configured.
    fn port_of(&self, key: &'static str, expected: &str) -> Result<Option<u16>> {
        let port = self.document.number(key, expected)?;
        let port = port.map(u16::try_from);
        port.transpose().map_err(|_| self.document.wrong(key, expected))
    }

    // Where the program is

    /// Where the program is, by the command line, or else by the keys of the file.
    fn place(&self, option: Option<Upstream>, routes: &[Route]) -> Result<Place> {
        let of_keys = self.place_of_keys(routes)?;
        Ok(option.map(|upstream| (OPTION.to_owned(), upstream)).or(of_keys))
    }

    /// The same by the keys, of which several must agree.
    fn place_of_keys(&self, routes: &[Route]) -> Result<Place> {
        let of_port = match self.document.number_or_text(APP_PORT, AN_APP_PORT)? {
            None => None,
            Some(NumberOrText::Text(text)) if text.trim().is_empty() => None,
            // Go's zero value, which `air init` writes.
            Some(NumberOrText::Number(0)) if self.air_mode => None,
            Some(NumberOrText::Number(number)) => match u16::try_from(number) {
                Ok(0) => Some(Upstream::Free),
                Ok(port) => Some(Upstream::Port(port)),
                Err(_) => return Err(self.document.wrong(APP_PORT, AN_APP_PORT)),
            },
            // As for `run.port`.
            Some(NumberOrText::Text(text)) if text == "auto" => Some(Upstream::Free),
            Some(NumberOrText::Text(_)) => {
                return Err(self.document.wrong(APP_PORT, AN_APP_PORT));
            }
        };
        let of_app = match self.document.number_or_text(APP, AN_APP)? {
            None => None,
            Some(NumberOrText::Text(text)) if text.trim().is_empty() => None,
            Some(NumberOrText::Number(number)) => Some(number.to_string()),
            Some(NumberOrText::Text(text)) => Some(text),
        };
        let of_app =
            of_app.map(|text| self.upstream(&text).ok_or_else(|| self.document.wrong(APP, AN_APP)));
        let of_route = routes.iter().find(|route| route.prefix == "/");
        let all = [
            (APP_PORT.to_owned(), of_port),
            (APP.to_owned(), of_app.transpose()?),
            (format!("{ROUTES}./"), of_route.map(|route| Upstream::Port(route.port))),
        ];
        let mut found: Place = None;
        for (key, upstream) in all {
            let Some(upstream) = upstream else { continue };
            match &found {
                Some((first, other)) if *other != upstream => {
                    let why = format!("{first} names another place of the program");
                    return Err(self.document.refused(&key, why).remedy("remove one of the two"));
                }
                Some(_) => {}
                None => found = Some((key, upstream)),
            }
        }
        Ok(found)
    }

    /// Where the program is, in agreement with `run.port`.
    fn beside_run(&self, place: Place, run: &Run) -> Result<Upstream> {
        let written = match run.port {
            Some(Port::Number(port)) => port.to_string(),
            Some(Port::Auto) => "\"auto\"".to_owned(),
            None => String::new(),
        };
        let Some((key, upstream)) = place else {
            return Ok(match run.port {
                None => Upstream::Found,
                Some(Port::Number(port)) => Upstream::Port(port),
                Some(Port::Auto) => Upstream::Free,
            });
        };
        let agrees = match (&upstream, run.port) {
            (Upstream::Port(port), Some(Port::Number(other))) => *port == other,
            (Upstream::Port(_), Some(Port::Auto)) | (Upstream::Free, Some(Port::Number(_))) => {
                false
            }
            _ => true,
        };
        if agrees {
            return Ok(upstream);
        }
        let why = format!("run.port = {written} names another port of the program");
        Err(self.document.refused(&key, why).remedy("remove one of the two: each sets the other"))
    }

    // What must be elsewhere

    /// The proxy must not forward to itself.
    fn check_port(&self, key: &str, proxy: &Proxy, upstream: &Upstream) -> Result<()> {
        if *upstream == Upstream::Port(proxy.port) {
            let expected = format!(
                "another port than {}, where the program listens: two programs cannot share one",
                proxy.port
            );
            return Err(self.document.wrong(key, expected));
        }
        if let Some(route) = proxy.routes.iter().find(|route| route.port == proxy.port) {
            let expected = format!("another port than {}, where the proxy listens", proxy.port);
            return Err(self.document.wrong(&format!("{ROUTES}.{}", route.prefix), expected));
        }
        Ok(())
    }

    /// hotrun itself must not have a socket on the port for the program.
    fn check_sockets(&self, key: &str, proxy: &Proxy, listen: &[Listen]) -> Result<()> {
        let taken = listen.iter().find(|one| match &one.address {
            Address::Tcp(address) => address.port() == proxy.port,
            Address::Udp(_) | Address::Unix(_) => false,
        });
        let Some(taken) = taken else { return Ok(()) };
        let expected =
            format!("another port than {}, a socket for the program ([[listen]])", taken.address);
        Err(self.document.wrong(key, expected).remedy("change one of the two ports"))
    }

    /// The proxy answers only when the program is ready, so it cannot show that it is.
    fn check_ready(&self, proxy: &Proxy, ready: &Ready) -> Result<()> {
        let targets = [
            ("ready.http", ready.http.as_ref().map(|http| &http.target)),
            ("ready.tcp", ready.tcp.as_ref()),
        ];
        let mine = proxy.bind.addresses(proxy.port);
        for (key, target) in targets {
            if target.is_some_and(|target| mine.iter().any(|one| target.leads_to(*one))) {
                let expected = format!("another port than {}, where the proxy listens", proxy.port);
                let error = self.document.wrong(key, expected);
                return Err(error.remedy("name the port of the program"));
            }
        }
        Ok(())
    }

    fn warn_of_no_port(&mut self) {
        let is_off = self.document.has("proxy.enabled");
        if !self.air_mode && !is_off && self.document.has_any(&DEPENDENT) {
            self.warnings.push(
                "[proxy] has no effect without proxy.proxy_port, the port that browsers connect to"
                    .to_owned(),
            );
        }
    }

    // How it works

    fn proxy_on(&self, port: u16, routes: Vec<Route>) -> Result<Proxy> {
        // air's deadline for a program to answer: here, too, the time that a request waits. 0 is
        // what `air init` writes.
        let start = self.duration("proxy.app_start_timeout", Duration::ZERO)?;
        let hold = self.duration("proxy.hold", HOLD)?;
        let is_airs = !self.document.has("proxy.hold") && !start.is_zero();
        let drain = "proxy.drain";
        Ok(Proxy {
            port,
            bind: self.bind()?,
            hold: if is_airs { start } else { hold },
            drain: self.document.duration(drain, keys::unit(drain, self.air_mode))?,
            tls: self.tls()?,
            hosts: self.hosts()?,
            routes,
            debug_headers: self.boolean("proxy.debug_headers", false)?,
        })
    }

    fn bind(&self) -> Result<Bind> {
        let key = "proxy.bind";
        let written = self.string(key)?;
        self.document.assume(key, "localhost");
        let Some(written) = written else { return Ok(Bind::Loopback) };
        let bare = written.trim();
        if bare.eq_ignore_ascii_case("localhost") {
            return Ok(Bind::Loopback);
        }
        let bare = bare.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(bare);
        let address = bare.parse().map_err(|_| self.document.wrong(key, BIND))?;
        Ok(Bind::Address(address))
    }

    fn tls(&self) -> Result<Option<Tls>> {
        self.document.assume(TLS, false);
        let below = self.document.below(TLS, FILES)?;
        let is_wanted = if below.is_empty() { self.document.boolean_or(TLS, FILES)? } else { None };
        let mut files = (None, None);
        for (name, key) in below {
            let file = match name.as_str() {
                "cert" => &mut files.0,
                "key" => &mut files.1,
                _ => return Err(self.document.refused(&key, format!("expected {FILES}"))),
            };
            let path = self.document.text_at(&key)?;
            *file = path.filter(|path| !path.trim().is_empty()).map(|path| self.file(&path));
        }
        match (files, is_wanted) {
            ((Some(cert), Some(key)), _) => Ok(Some(Tls::Files { cert, key })),
            ((None, None), Some(true)) => Ok(Some(Tls::Own)),
            ((None, None), _) => Ok(None),
            ((Some(_), None), _) => Err(self.alone("cert", "key", "its private key")),
            ((None, Some(_)), _) => Err(self.alone("key", "cert", "the certificate")),
        }
    }

    /// The error for one of two files.
    fn alone(&self, key: &str, other: &str, what: &str) -> Error {
        let error = self.document.refused(
            &format!("{TLS}.{key}"),
            format!("{TLS}.{other} is missing: the file of {what}"),
        );
        error.remedy(
            "tls = { cert = \"cert.pem\", key = \"key.pem\" }, or tls = true for a certificate \
             that hotrun makes",
        )
    }

    /// A file, relative to the directory of the configuration.
    fn file(&self, written: &str) -> PathBuf {
        match written.strip_prefix("~/").zip(std::env::home_dir()) {
            Some((below, home)) => home.join(below),
            None => absolute(&self.options.directory, Path::new(written)),
        }
    }

    fn hosts(&self) -> Result<Vec<String>> {
        let key = "proxy.hosts";
        let written = self.strings(key)?.unwrap_or_default();
        let mut hosts = Vec::new();
        for one in &written {
            let host = host(one.trim()).ok_or_else(|| {
                let error = self.document.wrong_item(key, one, HOST);
                match meant_host(one) {
                    Some(meant) => error.remedy(format!("write {meant:?}")),
                    None => error,
                }
            })?;
            hosts.push(host);
        }
        Ok(hosts)
    }

    /// The routes, the longest prefix first.
    fn routes(&self) -> Result<Vec<Route>> {
        let expected = "a table of paths and ports: { \"/api\" = 8080 }";
        self.document.assume(ROUTES, toml::Table::new());
        self.document.table(ROUTES, expected)?;
        let mut routes: Vec<Route> = Vec::new();
        for (prefix, key) in self.document.below(ROUTES, expected)? {
            let is_clean =
                prefix.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'?' | b'#'));
            if !prefix.starts_with('/') || !is_clean {
                return Err(self.document.refused(&key, format!("the key must be {PREFIX}")));
            }
            // A prefix stands for whole parts of a path: these two mean the same.
            let bare = |prefix: &str| prefix.trim_end_matches('/').to_owned();
            let same = |route: &&Route| bare(&route.prefix) == bare(&prefix);
            if let Some(other) = routes.iter().find(same) {
                let why = format!("the same paths as {:?}", other.prefix);
                return Err(self.document.refused(&key, why).remedy("remove one of the two"));
            }
            let number = self.document.number_at(&key, A_PORT)?;
            let port = number.and_then(|number| u16::try_from(number).ok()).filter(|one| *one != 0);
            let port = port.ok_or_else(|| self.document.wrong(&key, A_PORT))?;
            routes.push(Route { prefix, port });
        }
        routes.sort_by_key(|route| std::cmp::Reverse(route.prefix.len()));
        Ok(routes)
    }
}

impl Proxy {
    /// The address of the program's pages, for people.
    pub fn url(&self) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        let port = self.port;
        match self.bind {
            Bind::Address(address) if !address.is_unspecified() => {
                format!("{scheme}://{}", SocketAddr::new(address, port))
            }
            Bind::Address(_) | Bind::Loopback => format!("{scheme}://localhost:{port}"),
        }
    }
}

impl fmt::Display for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Upstream::Found => f.write_str("the port that the program opens"),
            Upstream::Port(port) => write!(f, ":{port}"),
            Upstream::Free => f.write_str("a free port for each start, passed in PORT"),
            Upstream::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl Bind {
    /// Whether other machines can connect.
    pub fn is_public(self) -> bool {
        matches!(self, Bind::Address(address) if !address.is_loopback())
    }

    /// The addresses that a socket is bound to.
    pub fn addresses(self, port: u16) -> Vec<SocketAddr> {
        let addresses = match self {
            Bind::Loopback => vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()],
            Bind::Address(address) => vec![address],
        };
        addresses.into_iter().map(|address| SocketAddr::new(address, port)).collect()
    }
}

/// A host name in lower case, with or without `*.` before it; `None`: it is none.
fn host(text: &str) -> Option<String> {
    let name = text.strip_prefix("*.").unwrap_or(text);
    let is_label = |label: &str| {
        let is_one = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
        !label.is_empty() && label.len() <= MAX_LABEL && label.bytes().all(is_one)
    };
    let is_name = name.len() <= MAX_HOST && name.split('.').all(is_label);
    is_name.then(|| text.to_ascii_lowercase())
}

/// The host name that is meant by a URL, an address with a port, or a domain with a dot before it.
fn meant_host(text: &str) -> Option<String> {
    let rest = text.trim();
    let rest = rest.split_once("://").map_or(rest, |(_, rest)| rest);
    let rest = rest.split('/').next().unwrap_or_default();
    let rest = rest.split_once(':').map_or(rest, |(name, _)| name);
    let rest = rest.strip_suffix('.').unwrap_or(rest);
    match rest.strip_prefix('.') {
        Some(domain) => host(&format!("*.{domain}")),
        None => host(rest),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{resolve, resolve_with};
    use super::super::{Config, Service};
    use super::*;

    const AIRS: &str = ".air.toml";
    const OWN: &str = "hotrun.toml";

    /// A file with these keys below `[proxy]`, after those of other tables.
    fn file(before: &str, keys: &str) -> String {
        format!("{before}\n[build]\nfull_bin = \"x\"\n[proxy]\n{keys}\n")
    }

    fn service(config: Config) -> Service {
        config.into_only().1
    }

    /// `PORT -> UPSTREAM`, or what is wrong.
    fn shown(resolved: Result<Config>) -> String {
        let config = match resolved {
            Ok(config) => config,
            Err(error) => return error.to_string(),
        };
        assert_eq!(config.project.warnings, [""; 0]);
        let service = service(config);
        let ports = service.ports;
        match (service.proxy, service.recipe.upstream) {
            (None, None) => format!("off {ports:?}"),
            (Some(proxy), Some(upstream)) => {
                format!("{} -> {upstream:?} {ports:?}", proxy.port)
            }
            one => panic!("{one:?}"),
        }
    }

    fn of(name: &str, before: &str, keys: &str) -> String {
        shown(resolve(name, &file(before, keys)))
    }

    fn by_option(option: &str, keys: &str) -> String {
        shown(resolve_with(OWN, &file("", keys), &[("proxy", option)]))
    }

    #[track_caller]
    fn refuses(text: &str, expected: &str, remedy: &str) {
        assert!(text.contains(expected) && text.contains(remedy), "{text}\n{expected}\n{remedy}");
    }

    #[test]
    fn a_port_turns_the_proxy_on_and_in_airs_files_only_enabled_does() {
        for (name, keys, expected) in [
            (OWN, "", "off []"),
            (OWN, "proxy_port = 0", "off []"),
            (OWN, "app_port = 3000", "off [3000]"),
            (OWN, "proxy_port = 8080", "8080 -> Found []"),
            (OWN, "proxy_port = 8080\nenabled = false\napp_port = 3000", "off [3000]"),
            (OWN, "proxy_port = 80\nenabled = true\napp_port = 3000", "80 -> Port(3000) [3000]"),
            (AIRS, "proxy_port = 8080\napp_port = 3000", "off [3000]"),
            (
                AIRS,
                "proxy_port = 8080\napp_port = 3000\nenabled = true",
                "8080 -> Port(3000) [3000]",
            ),
            (AIRS, "proxy_port = 8080\nenabled = true", "8080 -> Found []"),
        ] {
            assert_eq!(of(name, "", keys), expected, "{name} {keys}");
        }
        for keys in ["enabled = true", "enabled = true\nproxy_port = 0"] {
            for name in [OWN, AIRS] {
                let expected = "expected a port from 1 to 65535";
                refuses(&of(name, "", keys), expected, "proxy_port = 8080");
            }
        }
        refuses(
            &of(OWN, "", "proxy_port = 80800"),
            "proxy.proxy_port = 80800: expected a port",
            "",
        );
        refuses(
            &of(OWN, "", "enabled = false\napp_port = -1"),
            "app_port = -1: expected a port",
            "",
        );
    }

    #[test]
    fn other_keys_without_a_port_are_warned_about_once() {
        let warnings = |name, keys| resolve(name, &file("", keys)).unwrap().project.warnings;
        let told = warnings(OWN, "hold = \"1s\"\ntls = true");
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].starts_with("[proxy] has no effect without proxy.proxy_port"), "{told:?}");
        assert_eq!(warnings(OWN, "routes = { \"/a\" = 1 }").len(), 1);
        assert_eq!(warnings(OWN, "hold = \"1s\"\nenabled = false"), [""; 0]);
        assert_eq!(warnings(AIRS, "app_start_timeout = 1000"), [""; 0]);
        let told = warnings(OWN, "proxy_port = 8080\nhlod = \"1s\"\nroute = 1");
        assert!(told[0].ends_with("unknown key proxy.hlod; did you mean proxy.hold?"), "{told:?}");
        assert!(told[1].ends_with("did you mean proxy.routes?"), "{told:?}");
    }

    #[test]
    fn the_program_is_where_one_key_says_or_where_it_is_found() {
        let port = "proxy_port = 8080\n";
        for (name, before, keys, expected) in [
            (OWN, "", "app_port = 0", "Free []"),
            (OWN, "", "app_port = \"auto\"", "Free []"),
            (OWN, "", "app_port = \"\"", "Found []"),
            (AIRS, "", "app_port = 0\nenabled = true", "Found []"),
            (OWN, "", "app = 3000", "Port(3000) [3000]"),
            (OWN, "", "app = \"3000\"", "Port(3000) [3000]"),
            (OWN, "", "app = \"unix:/tmp/x.sock\"", "Unix(\"/tmp/x.sock\") []"),
            (OWN, "", "app = \"\"", "Found []"),
            (OWN, "", "app = 3000\napp_port = 3000", "Port(3000) [3000]"),
            (OWN, "", "routes = { \"/\" = 3000 }", "Port(3000) [3000]"),
            (OWN, "", "routes = { \"/api\" = 3000 }", "Found []"),
            (OWN, "run.port = 3000", "", "Port(3000) [3000]"),
            (OWN, "run.port = 3000", "app_port = 3000", "Port(3000) [3000]"),
            (OWN, "run.port = \"auto\"", "", "Free []"),
            (OWN, "run.port = \"auto\"", "app_port = 0", "Free []"),
            (OWN, "run.port = 3000", "app = \"unix:/x\"", "Unix(\"/x\") [3000]"),
        ] {
            let found = of(name, before, &format!("{port}{keys}"));
            assert_eq!(found, format!("8080 -> {expected}"), "{before} {keys}");
        }
        let config = resolve(OWN, &file("", "proxy_port = 8080\napp_port = 3000")).unwrap();
        assert_eq!(service(config).recipe.run.port, Some(Port::Number(3000)), "run.port follows");
        let config = resolve(OWN, &file("", "app_port = 3000")).unwrap();
        assert_eq!(service(config).recipe.run.port, None, "without a proxy it does not");
        let relative = resolve(OWN, &file("", "proxy_port = 8080\napp = \"unix:x\"")).unwrap();
        let directory = relative.project.directory.clone();
        let upstream = service(relative).recipe.upstream;
        assert_eq!(upstream, Some(Upstream::Unix(directory.join("x"))));
    }

    #[test]
    fn keys_that_contradict_each_other_are_an_error_that_names_both() {
        for (before, keys, expected, remedy) in [
            (
                "",
                "app_port = 1\napp = 2",
                "app = 2: proxy.app_port names another",
                "one of the two",
            ),
            ("", "app_port = 0\napp = \"unix:/x\"", "proxy.app_port names another", "remove"),
            ("", "app_port = 1\nroutes = { \"/\" = 2 }", "proxy.routes./ = 2: proxy.app_port", ""),
            ("run.port = 1", "app_port = 2", "app_port = 2: run.port = 1 names", "each sets the"),
            ("run.port = 1", "app_port = 0", "app_port = 0: run.port = 1 names another port", ""),
            ("run.port = \"auto\"", "app_port = 2", "app_port = 2: run.port = \"auto\" names", ""),
            ("run.port = 1", "routes = { \"/\" = 2 }", "proxy.routes./ = 2: run.port = 1", ""),
            ("", "app_port = 8080", "two programs cannot share one", ""),
            ("", "app = 8080", "proxy.proxy_port = 8080: expected another port than 8080", ""),
            ("run.port = 8080", "", "where the program listens", ""),
            ("", "routes = { \"/a\" = 8080 }", "proxy.routes./a = 8080: expected another port", ""),
            ("listen = [{ address = 8080 }]", "", "another port than 127.0.0.1:8080", "change one"),
            (
                "ready.tcp = 8080",
                "",
                "ready.tcp = 8080: expected another port than 8080",
                "program",
            ),
            ("ready.http = \"http://localhost:8080/\"", "", "where the proxy listens", ""),
            ("ready.http = \"http://[::1]:8080/\"", "", "where the proxy listens", ""),
        ] {
            refuses(&of(OWN, before, &format!("proxy_port = 8080\n{keys}")), expected, remedy);
        }
        let udp = "listen = [{ address = \"udp:8080\" }, { address = 9000 }]";
        assert_eq!(of(OWN, udp, "proxy_port = 8080"), "8080 -> Found []");
        assert_eq!(of(OWN, "run.port = 1", "app_port = 2"), "off [1]", "without a proxy");
    }

    #[test]
    fn the_option_overrides_what_it_names() {
        for (option, keys, expected) in [
            ("8080", "", "8080 -> Found []"),
            ("8080:3000", "", "8080 -> Port(3000) [3000]"),
            ("8080:0", "", "8080 -> Free []"),
            ("8080:unix:/tmp/x.sock", "", "8080 -> Unix(\"/tmp/x.sock\") []"),
            ("8080", "enabled = false", "8080 -> Found []"),
            ("8080", "proxy_port = 80\napp_port = 3000", "8080 -> Port(3000) [3000]"),
            ("8080:4000", "proxy_port = 80\napp_port = 3000", "8080 -> Port(4000) [4000]"),
            ("8080:4000", "app = \"unix:/x\"", "8080 -> Port(4000) [4000]"),
        ] {
            assert_eq!(by_option(option, keys), expected, "{option} {keys}");
        }
        for wrong in ["", "x", "0", "70000", "8080:", "8080:x", "8080:70000", "8080:unix:", "1:2:3"]
        {
            let expected =
                format!("--proxy {wrong}: expected PORT, PORT:PROGRAM-PORT or PORT:unix");
            refuses(&by_option(wrong, ""), &expected, "--proxy 8080:3000");
        }
        refuses(&by_option("80:80", ""), "--proxy 80:80: expected another port than 80", "");
        let run = |keys: &[(&str, &str)]| shown(resolve_with(OWN, &file("", ""), keys));
        refuses(
            &run(&[("proxy", "8080:3000"), ("run.port", "4000")]),
            "--proxy 8080:3000: run.port = 4000 names another port of the program",
            "",
        );
        refuses(
            &run(&[("proxy", "80"), ("listen", "80")]),
            "--proxy 80: expected another port",
            "",
        );
        assert_eq!(run(&[("proxy.proxy_port", "80")]), "80 -> Found []");
        let routes = [("proxy", "80"), ("proxy.routes./", "90"), ("proxy.routes./a.b", "91")];
        assert_eq!(run(&routes), "80 -> Port(90) [90]");
        refuses(&run(&[("proxy.routes", "/=1")]), "--proxy.routes /=1: expected a table", "");
    }

    /// The proxy on port 8080 with these keys.
    fn proxy(name: &str, keys: &str) -> std::result::Result<Proxy, String> {
        let text = file("", &format!("enabled = true\nproxy_port = 8080\n{keys}"));
        let config = resolve(name, &text).map_err(|error| error.to_string())?;
        assert_eq!(config.project.warnings, [""; 0]);
        Ok(service(config).proxy.unwrap())
    }

    #[test]
    fn defaults_are_safe() {
        let expected = Proxy {
            port: 8080,
            bind: Bind::Loopback,
            hold: Duration::from_secs(30),
            drain: None,
            tls: None,
            hosts: Vec::new(),
            routes: Vec::new(),
            debug_headers: false,
        };
        assert_eq!(proxy(OWN, "").unwrap(), expected);
        assert_eq!(proxy(AIRS, "app_start_timeout = 0").unwrap(), expected);
        assert!(!Bind::Loopback.is_public());
        assert!(proxy(OWN, "debug_headers = true").unwrap().debug_headers);
    }

    #[test]
    fn the_hold_is_airs_timeout_if_only_that_is_written() {
        for (name, keys, ms) in [
            (OWN, "hold = \"2s\"", 2000),
            (OWN, "hold = 0", 0),
            (AIRS, "app_start_timeout = 5000", 5000),
            (OWN, "app_start_timeout = \"5s\"", 5000),
            (OWN, "app_start_timeout = \"5s\"\nhold = \"2s\"", 2000),
        ] {
            assert_eq!(proxy(name, keys).unwrap().hold, Duration::from_millis(ms), "{keys}");
        }
        assert_eq!(proxy(OWN, "drain = \"\"").unwrap().drain, None);
        assert_eq!(proxy(OWN, "drain = 0").unwrap().drain, Some(Duration::ZERO));
        refuses(&proxy(OWN, "hold = 5").unwrap_err(), "hold = 5: 5 has no unit", "\"5s\"");
    }

    #[test]
    fn it_listens_on_loopback_or_on_one_address() {
        for (written, expected, url) in [
            ("localhost", "Loopback", "http://localhost:8080"),
            ("127.0.0.1", "Address(127.0.0.1)", "http://127.0.0.1:8080"),
            ("0.0.0.0", "Address(0.0.0.0) public", "http://localhost:8080"),
            ("::", "Address(::) public", "http://localhost:8080"),
            ("[::1]", "Address(::1)", "http://[::1]:8080"),
            ("", "Loopback", "http://localhost:8080"),
        ] {
            let proxy = proxy(OWN, &format!("bind = \"{written}\"")).unwrap();
            let public = if proxy.bind.is_public() { " public" } else { "" };
            assert_eq!(format!("{:?}{public}", proxy.bind), expected);
            assert_eq!(proxy.url(), url);
        }
        for wrong in ["*", "example.com", "0.0.0.0:8080", "localhost:8080"] {
            let error = proxy(OWN, &format!("bind = \"{wrong}\"")).unwrap_err();
            refuses(&error, "expected \"localhost\", or an IP address", "\"0.0.0.0\" for all");
        }
    }

    #[test]
    fn tls_has_a_certificate_of_its_own_or_two_files() {
        assert_eq!(proxy(OWN, "tls = false").unwrap().tls, None);
        assert_eq!(proxy(OWN, "tls = true").unwrap().tls, Some(Tls::Own));
        assert_eq!(proxy(OWN, "tls = true").unwrap().url(), "https://localhost:8080");
        let files = Tls::Files { cert: "/c.pem".into(), key: "/k.pem".into() };
        for keys in [
            "tls = { cert = \"/c.pem\", key = \"/k.pem\" }",
            "[proxy.tls]\ncert = \"/c.pem\"\nkey = \"/k.pem\"",
        ] {
            assert_eq!(proxy(OWN, keys).unwrap().tls.as_ref(), Some(&files));
        }
        let relative = proxy(OWN, "tls = { cert = \"c.pem\", key = \"~/k.pem\" }").unwrap().tls;
        let Some(Tls::Files { cert, key }) = relative else { panic!("{relative:?}") };
        assert!(cert.is_absolute() && cert.ends_with("c.pem"), "{}", cert.display());
        assert!(key.is_absolute() && !key.display().to_string().contains('~'), "{}", key.display());
        for (keys, expected, remedy) in [
            ("tls = { cert = \"c\" }", "tls.cert = \"c\": proxy.tls.key is missing", "tls = true"),
            ("tls = { key = \"k\" }", "tls.key = \"k\": proxy.tls.cert is missing", "tls = {"),
            ("tls = { key = \"k\", cert = \"\" }", "proxy.tls.cert is missing", ""),
            ("tls = {}", "proxy.tls = {}: expected true, or { cert", ""),
            ("tls = 5", "proxy.tls = 5: expected true, or { cert", ""),
            ("tls = [{ cert = \"c\" }]", "proxy.tls: expected true, or { cert", ""),
            ("tls = { cret = \"c\" }", "proxy.tls.cret = \"c\": expected true, or { cert", ""),
            ("tls = { cert = 5 }", "proxy.tls.cert = 5: expected a string", ""),
        ] {
            refuses(&proxy(OWN, keys).unwrap_err(), expected, remedy);
        }
    }

    #[test]
    fn hosts_are_names_and_a_url_is_refused_with_the_name_that_is_meant() {
        let hosts = |list: &str| proxy(OWN, &format!("hosts = {list}")).map(|proxy| proxy.hosts);
        let good = "[\"App.Test\", \"*.ngrok.app\", \"my_box\", \"10.0.0.2\"]";
        assert_eq!(hosts(good).unwrap(), ["app.test", "*.ngrok.app", "my_box", "10.0.0.2"]);
        for (wrong, meant) in [
            ("https://app.test/x", "write \"app.test\""),
            ("app.test:8080", "write \"app.test\""),
            ("app.test.", "write \"app.test\""),
            (".ngrok.app", "write \"*.ngrok.app\""),
            ("https://*.ngrok.app", "write \"*.ngrok.app\""),
            ("*", ""),
            ("", ""),
            ("a.*.b", ""),
            ("a b", ""),
            ("b\u{fc}cher.test", ""),
        ] {
            let error = hosts(&format!("[\"ok\", \"{wrong}\"]")).unwrap_err();
            refuses(&error, &format!("proxy.hosts: {wrong:?}: expected a host name"), meant);
        }
        let long = format!("[\"{}\"]", "a".repeat(64));
        refuses(&hosts(&long).unwrap_err(), "expected a host name", "");
    }

    #[test]
    fn routes_are_prefixes_with_ports_the_longest_first() {
        let routes = |table: &str| {
            let routes = proxy(OWN, &format!("routes = {table}"))?.routes;
            let shown = routes.iter().map(|one| format!("{} {}", one.prefix, one.port));
            Ok::<_, String>(shown.collect::<Vec<_>>().join(", "))
        };
        let table = "{ \"/\" = 3000, \"/api/v1.2\" = 1, \"/api\" = 65535, \"/app\" = 2 }";
        assert_eq!(routes(table).unwrap(), "/api/v1.2 1, /api 65535, /app 2, / 3000");
        assert_eq!(routes("{}").unwrap(), "");
        for (table, expected) in [
            ("{ \"api\" = 1 }", "proxy.routes.api = 1: the key must be a path that begins with /"),
            ("{ \"/a b\" = 1 }", "the key must be a path"),
            ("{ \"/a?b\" = 1 }", "the key must be a path"),
            ("{ \"/a\" = 1, \"/a/\" = 2 }", "proxy.routes./a/ = 2: the same paths as \"/a\""),
            ("{ \"/a\" = 0 }", "proxy.routes./a = 0: expected a port from 1 to 65535"),
            ("{ \"/a\" = 70000 }", "expected a port from 1 to 65535"),
            ("{ \"/a\" = \"1\" }", "expected a port from 1 to 65535"),
            ("{ \"/a\" = { port = 1 } }", "proxy.routes./a = { port = 1 }: expected a port from 1"),
            ("{ \"/a\".b = 1 }", "proxy.routes./a"),
            ("{ \"/a\" = [{ port = 1 }] }", "proxy.routes./a: expected a table of paths and ports"),
            ("5", "proxy.routes = 5: expected a table of paths and ports"),
            ("[{ \"/a\" = 1 }]", "proxy.routes: expected a table of paths and ports"),
        ] {
            refuses(&routes(table).unwrap_err(), expected, "");
        }
    }

    #[test]
    fn what_is_written_is_shown_with_its_place() {
        let text = file("", "proxy_port = 8080\nroutes = { \"/a.b\" = 1, \"/\" = 2 }\ntls = true");
        let settings = resolve(OWN, &text).unwrap().project.settings;
        let shown = |key: &str| {
            let setting = settings.iter().find(|setting| setting.key == key).unwrap();
            format!("{} # {}", setting.value, setting.origin)
        };
        assert_eq!(shown("proxy.routes"), "{ \"/\" = 2, \"/a.b\" = 1 } # hotrun.toml:6");
        assert_eq!(shown("proxy.tls"), "true # hotrun.toml:7");
        assert_eq!(shown("proxy.enabled"), "true # default");
        assert!(!settings.iter().any(|setting| setting.key.starts_with("proxy.routes.")));
    }
}
