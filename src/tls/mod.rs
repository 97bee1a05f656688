//! TLS on our own listeners, for those who have no proxy in front: a certificate chain and its key, from two files.
//!
//! Both files are taken anew on SIGHUP, together or not at all. Connections that are open go on under what they began with.

mod validity;

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
};

use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        self, ServerConfig,
        crypto::ring,
        pki_types::{
            CertificateDer, PrivateKeyDer,
            pem::{self, PemObject},
        },
    },
};
use zeroize::Zeroizing;

pub use self::validity::Validity;
use crate::{
    config::{self, TlsFiles},
    private,
};

/// A longer file is no chain, and no key.
const LONGEST_FILE: u64 = 1 << 20;
/// The one protocol that is spoken (RFC 7301).
const ALPN: &[u8] = b"http/1.1";

/// Why no TLS can be spoken with these files. Each says its key of the configuration, or its variable.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("{key}: {path}: {error}", path = .path.display())]
    Unreadable {
        /// Its key.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// It is not PEM, or has nothing of what it is for.
    #[error("{key}: {path} holds {missing}", path = .path.display())]
    Missing {
        /// Its key.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// What it does not hold.
        missing: &'static str,
    },
    /// Others could have read the private key, or could change it.
    #[error(
        "server.tls_key: {path} may be opened by others than its owner (mode {mode:04o}): `chmod 600 {path}`, and think of \
         whether somebody has read it",
        path = .path.display()
    )]
    OpenToOthers {
        /// The key's file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// The key is another certificate's.
    #[error(
        "server.tls_key: the key does not fit the first certificate in {path}, which is the server's own",
        path = .0.display()
    )]
    OtherKey(PathBuf),
    /// rustls will not have them.
    #[error("server.tls_cert: {path} cannot be used: {error}", path = .path.display())]
    Unusable {
        /// The certificate's file.
        path: PathBuf,
        /// Why.
        error: rustls::Error,
    },
}

/// The CAs that are trusted in the place of the public ones, where `SSL_CERT_FILE` names a file of them.
pub fn named_roots() -> Result<Option<Vec<CertificateDer<'static>>>, TlsError> {
    config::ca_file().map(|file| chain_in("SSL_CERT_FILE", &file)).transpose()
}

/// What is shown to those who connect.
pub struct Tls {
    files: TlsFiles,
    pair: RwLock<Pair>,
}

/// A chain and a key that fit together.
#[derive(Clone)]
pub struct Pair {
    settings: Arc<ServerConfig>,
    /// The time of the server's own certificate; `None` where it cannot be told.
    pub validity: Option<Validity>,
}

impl Tls {
    /// With these files, and what was read from them.
    pub fn new(files: TlsFiles, pair: Pair) -> Self {
        Self { files, pair: RwLock::new(pair) }
    }

    /// What shakes hands from here on; a handshake that is under way goes on with what it began with.
    pub fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(self.pair().settings)
    }

    /// The time of the certificate that is shown; `None` where it cannot be told.
    pub fn validity(&self) -> Option<Validity> {
        self.pair().validity
    }

    fn pair(&self) -> Pair {
        self.pair.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes the files anew. Where something is wrong with them, nothing changes.
    pub fn reload(&self) -> Result<Option<Validity>, TlsError> {
        let pair = Pair::read(&self.files)?;
        let validity = pair.validity;
        *self.pair.write().unwrap_or_else(PoisonError::into_inner) = pair;
        Ok(validity)
    }
}

impl Pair {
    /// Reads and checks both files.
    pub fn read(files: &TlsFiles) -> Result<Self, TlsError> {
        let chain = chain_in("server.tls_cert", &files.cert)?;
        let key = key_in(&files.key)?;
        let validity = chain.first().and_then(|own| Validity::of(own));
        let unusable = |error| match error {
            rustls::Error::InconsistentKeys(_) => TlsError::OtherKey(files.cert.clone()),
            error => TlsError::Unusable { path: files.cert.clone(), error },
        };
        let mut settings = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .and_then(|versions| versions.with_no_client_auth().with_single_cert(chain, key))
            .map_err(unusable)?;
        settings.alpn_protocols = vec![ALPN.to_vec()];
        Ok(Self { settings: Arc::new(settings), validity })
    }
}

fn chain_in(key: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let unreadable = |error| TlsError::Unreadable { key, path: path.to_owned(), error };
    let text = private::regular_file(path).and_then(read).map_err(unreadable)?;
    let chain: Result<Vec<_>, pem::Error> = CertificateDer::pem_slice_iter(&text).collect();
    let chain = chain.ok().filter(|chain| !chain.is_empty());
    let missing = "no certificate that can be read: it is PEM, with the server's own first where it is a chain";
    chain.ok_or_else(|| TlsError::Missing { key, path: path.to_owned(), missing })
}

fn key_in(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    let key = "server.tls_key";
    let unreadable = |error| TlsError::Unreadable { key, path: path.to_owned(), error };
    let file = private::regular_file(path).map_err(unreadable)?;
    // Of the file that is read, and not of one that takes its place meanwhile.
    if let Some(mode) = private::open_to_others(&file.metadata().map_err(unreadable)?) {
        return Err(TlsError::OpenToOthers { path: path.to_owned(), mode });
    }
    let text = read(file).map_err(unreadable)?;
    let missing = "no private key that can be read: it is PEM, and has no passphrase";
    PrivateKeyDer::from_pem_slice(&text).map_err(|_| TlsError::Missing { key, path: path.to_owned(), missing })
}

fn read(file: File) -> io::Result<Zeroizing<Vec<u8>>> {
    let mut text = Zeroizing::new(Vec::new());
    file.take(LONGEST_FILE).read_to_end(&mut text)?;
    Ok(text)
}
