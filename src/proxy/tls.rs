//! TLS towards browsers: the certificate, and connections that use it.

use std::fs::{self, OpenOptions};
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use nix::fcntl::OFlag;
use nix::unistd::geteuid;
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::client::WebPkiServerVerifier;
use tokio_rustls::rustls::client::danger::ServerCertVerifier;
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::pem::{self, PemObject};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tokio_rustls::rustls::{self, CertificateError, RootCertStore, ServerConfig};

use crate::config;
use crate::error::{Error, Result};

/// What browsers may speak, the best first.
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];
/// For how long a certificate that hotrun makes is valid. Browsers accept no more than 398 days.
const VALID: Duration = Duration::from_secs(397 * 24 * 3600);
/// At this age another one is made.
const RENEWED_AFTER: Duration = Duration::from_secs(300 * 24 * 3600);
/// Time by which it is valid earlier, as clocks differ.
const BEFORE: Duration = Duration::from_secs(24 * 3600);
/// Maximum size of a file with a certificate, in bytes.
const MAX_FILE: u64 = 1 << 20;

/// What is needed to accept connections with TLS.
#[derive(Clone)]
pub(crate) struct Tls {
    config: Arc<ServerConfig>,
    chain: Vec<CertificateDer<'static>>,
    /// What is wrong with the certificate, though it can be used.
    pub(crate) doubt: Option<&'static str>,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls").field("doubt", &self.doubt).finish_non_exhaustive()
    }
}

impl PartialEq for Tls {
    fn eq(&self, other: &Self) -> bool {
        self.chain == other.chain
    }
}

impl Eq for Tls {}

impl Tls {
    /// Reads the certificate, or makes one, as it is configured. `None`: without TLS.
    ///
    /// # Errors
    ///
    /// A file cannot be read, or holds something else, or the two do not belong together.
    pub(crate) fn load(proxy: &config::Proxy) -> Result<Option<Self>> {
        let Some(tls) = &proxy.tls else { return Ok(None) };
        let (chain, key) = match tls {
            config::Tls::Files { cert, key } => (chain(cert, &read(cert)?)?, private_key(key)?),
            config::Tls::Own => {
                let (path, text) = own(proxy)?;
                (chain(&path, &text)?, key_in(&path, &text)?)
            }
        };
        let provider = Arc::new(ring::default_provider());
        let doubt = doubt(&chain, &provider);
        let wrong = |error: rustls::Error| Error::failed("proxy.tls", error);
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(wrong)?
            .with_no_client_auth()
            .with_single_cert(chain.clone(), key);
        let mut config = config.map_err(|error| {
            wrong(error).remedy("the certificate and the key must belong together")
        })?;
        config.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).into();
        Ok(Some(Self { config: Arc::new(config), chain, doubt }))
    }

    pub(super) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(Arc::clone(&self.config))
    }
}

fn read(path: &Path) -> Result<Vec<u8>> {
    let read = || -> io::Result<Vec<u8>> {
        // A pipe without a writer must not be waited for.
        let flags = OFlag::O_NONBLOCK.bits();
        let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
        if !file.metadata()?.is_file() {
            return Err(io::Error::other("is no file"));
        }
        let mut bytes = Vec::new();
        file.take(MAX_FILE).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let remedy = "mkcert localhost makes such files; or let hotrun make one: tls = true";
    read().map_err(|error| Error::failed(path.display(), error).remedy(remedy))
}

fn chain(path: &Path, text: &[u8]) -> Result<Vec<CertificateDer<'static>>> {
    let all: std::result::Result<Vec<_>, pem::Error> =
        CertificateDer::pem_slice_iter(text).collect();
    match all {
        Ok(all) if !all.is_empty() => Ok(all),
        Ok(_) => Err(Error::failed(path.display(), "no certificate in PEM format is in it")),
        Err(error) => Err(Error::failed(path.display(), error)),
    }
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>> {
    key_in(path, &read(path)?)
}

fn key_in(path: &Path, text: &[u8]) -> Result<PrivateKeyDer<'static>> {
    PrivateKeyDer::from_pem_slice(text).map_err(|error| match error {
        pem::Error::NoItemsFound => {
            Error::failed(path.display(), "no private key in PEM format is in it")
        }
        error => Error::failed(path.display(), error),
    })
}

/// What browsers will complain about: that the certificate is not valid now. Who has signed it does
/// not matter here.
fn doubt(
    chain: &[CertificateDer<'static>],
    provider: &Arc<CryptoProvider>,
) -> Option<&'static str> {
    let (first, rest) = chain.split_first()?;
    let mut roots = RootCertStore::empty();
    roots.add(first.clone()).ok()?;
    let verifier =
        WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
    let verifier = verifier.build().ok()?;
    let name = ServerName::try_from("localhost").ok()?;
    match verifier.verify_server_cert(first, rest, &name, &[], UnixTime::now()) {
        Err(rustls::Error::InvalidCertificate(error)) => match error {
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                Some("has expired")
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                Some("is not valid yet")
            }
            _ => None,
        },
        Ok(_) | Err(_) => None,
    }
}

/// Returns a certificate of hotrun's own with its key, and the file that both are in.
fn own(proxy: &config::Proxy) -> Result<(PathBuf, Vec<u8>)> {
    let state = config::choice::state_directory()
        .ok_or_else(|| Error::failed("proxy.tls", "there is no home directory to keep it in"))?;
    let names = names(proxy);
    let path = state
        .join(format!("proxy.{:016x}.pem", config::choice::digest(names.join(",").as_bytes())));
    if let Some(text) = kept(&path) {
        return Ok((path, text));
    }
    let text = made(names).map_err(|error| Error::failed("proxy.tls", error))?;
    keep(&path, text.as_bytes()).map_err(|error| Error::failed(path.display(), error))?;
    Ok((path, text.into_bytes()))
}

/// The names in the certificate.
fn names(proxy: &config::Proxy) -> Vec<String> {
    let mut names = vec!["localhost".to_owned(), "*.localhost".to_owned()];
    names.extend([Ipv4Addr::LOCALHOST.to_string(), Ipv6Addr::LOCALHOST.to_string()]);
    if let config::Bind::Address(address) = proxy.bind
        && !address.is_unspecified()
        && !names.contains(&address.to_string())
    {
        names.push(address.to_string());
    }
    names.extend(proxy.hosts.iter().cloned());
    names
}

/// The certificate that was kept, unless it is too old, or another user could have read or written
/// it.
fn kept(path: &Path) -> Option<Vec<u8>> {
    let flags = (OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path).ok()?;
    let meta = file.metadata().ok()?;
    // Neither its group nor others have any right: the last six bits are 0.
    let is_private = meta.uid() == geteuid().as_raw() && meta.mode().trailing_zeros() >= 6;
    let age = SystemTime::now().duration_since(meta.modified().ok()?).ok()?;
    if !meta.is_file() || !is_private || age > RENEWED_AFTER {
        return None;
    }
    let mut text = Vec::new();
    file.take(MAX_FILE).read_to_end(&mut text).ok()?;
    let is_whole = chain(path, &text).is_ok() && key_in(path, &text).is_ok();
    is_whole.then_some(text)
}

/// Makes a certificate that is its own authority, with its key, in PEM format.
fn made(names: Vec<String>) -> std::result::Result<String, rcgen::Error> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "hotrun (localhost)");
    params.not_before = (SystemTime::now() - BEFORE).into();
    params.not_after = (SystemTime::now() - BEFORE + VALID).into();
    let certificate = params.self_signed(&key)?;
    Ok(certificate.pem() + &key.serialize_pem())
}

/// Keeps a file that only this user can read. It appears at once.
fn keep(path: &Path, text: &[u8]) -> io::Result<()> {
    if let Some(directory) = path.parent() {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    }
    let new = path.with_extension(format!("{}.new", std::process::id()));
    let written = || -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
        file.write_all(text)?;
        fs::rename(&new, path)
    };
    let _ = fs::remove_file(&new);
    written().inspect_err(|_| drop(fs::remove_file(&new)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::os::unix::fs::PermissionsExt;

    fn certificate(names: &[&str]) -> String {
        made(names.iter().map(|name| (*name).to_owned()).collect()).unwrap()
    }

    /// What the loader says of two files with these contents.
    fn load(cert: &str, key: &str) -> std::result::Result<Option<Tls>, String> {
        let place = tempfile::tempdir().unwrap();
        let (cert_file, key_file) = (place.path().join("cert.pem"), place.path().join("key.pem"));
        fs::write(&cert_file, cert).unwrap();
        fs::write(&key_file, key).unwrap();
        let proxy = config::Proxy {
            port: 1,
            bind: config::Bind::Loopback,
            hold: Duration::ZERO,
            drain: None,
            tls: Some(config::Tls::Files { cert: cert_file, key: key_file }),
            hosts: Vec::new(),
            routes: Vec::new(),
            debug_headers: false,
        };
        Tls::load(&proxy).map_err(|error| error.to_string())
    }

    #[test]
    fn files_that_belong_together_are_taken_and_others_are_named() {
        let (one, other) = (certificate(&["localhost"]), certificate(&["localhost"]));
        assert_eq!(load(&one, &one).unwrap().unwrap().doubt, None);
        for (cert, key, expected) in [
            (&*one, &*other, "must belong together"),
            ("", &*one, "cert.pem: no certificate in PEM format"),
            (&*one, "", "key.pem: no private key in PEM format"),
            ("-----BEGIN CERTIFICATE-----\n!", &*one, "cert.pem: "),
        ] {
            let error = load(cert, key).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn a_certificate_that_is_not_valid_now_is_found_out() {
        let dated = |from: SystemTime, until: SystemTime| {
            let key = KeyPair::generate().unwrap();
            let mut params = CertificateParams::new(vec!["example.org".to_owned()]).unwrap();
            (params.not_before, params.not_after) = (from.into(), until.into());
            let text = params.self_signed(&key).unwrap().pem() + &key.serialize_pem();
            load(&text, &text).unwrap().unwrap().doubt
        };
        let (now, day) = (SystemTime::now(), BEFORE);
        assert_eq!(dated(now - day, now + day), None);
        assert_eq!(dated(now - 2 * day, now - day), Some("has expired"));
        assert_eq!(dated(now + day, now + 2 * day), Some("is not valid yet"));
    }

    #[test]
    fn a_certificate_is_kept_for_this_user_alone_and_made_again_when_it_is_old_or_not_private() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("state/proxy.pem");
        assert_eq!(kept(&path), None);
        let text = certificate(&["localhost", "*.localhost", "127.0.0.1", "::1"]).into_bytes();
        keep(&path, &text).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(path.parent().unwrap()).unwrap().mode() & 0o777, 0o700);
        assert_eq!(kept(&path), Some(text.clone()));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert_eq!(kept(&path), None, "a group can read it");
        keep(&path, &text).unwrap();
        assert_eq!(kept(&path), Some(text.clone()));
        let old = SystemTime::now() - RENEWED_AFTER - BEFORE;
        File::open(&path).unwrap().set_modified(old).unwrap();
        assert_eq!(kept(&path), None, "it is old");
        keep(&path, &text[..text.len() / 2]).unwrap();
        assert_eq!(kept(&path), None, "it is cut off");
        let link = place.path().join("link");
        keep(&path, &text).unwrap();
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert_eq!(kept(&link), None, "it is a link");
    }
}
