//! TLS as the calls of rows use it, and what is wrong with it in words.

use std::{
    io,
    net::TcpStream,
    sync::{Arc, LazyLock},
};

use tokio_rustls::{
    TlsConnector,
    rustls::{
        CertificateError, ClientConfig, ClientConnection, Error, RootCertStore, crypto::ring, pki_types::ServerName,
    },
};

/// What is said of a server that says nothing while hands are to be shaken.
pub(super) const UNANSWERED: &str =
    "TLS: no answer to the handshake: if that port does not speak TLS, its URL has to begin with http://";

/// The public roots, and every version that is still safe.
static SETTINGS: LazyLock<Result<Arc<ClientConfig>, Error>> = LazyLock::new(|| {
    let roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    trusting(roots).map(Arc::new)
});

fn trusting(roots: RootCertStore) -> Result<ClientConfig, Error> {
    let versions = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?;
    Ok(versions.with_root_certificates(roots).with_no_client_auth())
}

/// What it takes to speak TLS with the server of this name; or why that cannot be, for a person.
pub(super) fn connector(host: &str) -> Result<(TlsConnector, ServerName<'static>), String> {
    let settings = SETTINGS.as_ref().map_err(in_words)?;
    Ok((TlsConnector::from(settings.clone()), name_of(host)?))
}

fn name_of(host: &str) -> Result<ServerName<'static>, String> {
    ServerName::try_from(host.to_owned())
        .map_err(|_| "TLS: the host's name is none that a certificate can have".to_owned())
}

/// Shakes hands over a connection, and says in words why that failed. What is sent means nothing to the server.
pub fn shake_hands(host: &str, stream: &mut TcpStream) -> Result<(), String> {
    shake(SETTINGS.as_ref().map_err(in_words)?.clone(), host, stream)
}

fn shake(settings: Arc<ClientConfig>, host: &str, stream: &mut TcpStream) -> Result<(), String> {
    let mut connection = ClientConnection::new(settings, name_of(host)?).map_err(|error| in_words(&error))?;
    while connection.is_handshaking() {
        connection.complete_io(stream).map_err(|error| tls_in_words(&error))?;
    }
    Ok(())
}

/// Whether whoever takes this connection, which was meant to go without, speaks TLS.
pub fn speaks_tls(host: &str, stream: &mut TcpStream) -> bool {
    let Ok((settings, name)) = SETTINGS.as_ref().map_err(in_words).and_then(|it| Ok((it.clone(), name_of(host)?)))
    else {
        return false;
    };
    let Ok(mut connection) = ClientConnection::new(settings, name) else { return false };
    while connection.is_handshaking() {
        if let Err(error) = connection.complete_io(stream) {
            let fault = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
            // A certificate that is not accepted is one all the same, and so is an alert.
            return fault.is_some_and(|fault| !matches!(fault, Error::InvalidMessage(_)));
        }
    }
    true
}

/// Why a handshake failed.
pub fn tls_in_words(error: &io::Error) -> String {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
    match (inner, error.kind()) {
        (Some(fault), _) => in_words(fault),
        // What a socket says whose time to read is over.
        (None, io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => UNANSWERED.to_owned(),
        // Servers that read it as a request of another protocol do that.
        (None, io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe) => {
            "TLS: the connection was closed within the handshake: if that port does not speak TLS, its URL has to begin \
             with http://"
                .to_owned()
        }
        (None, kind) => format!("TLS: {kind}"),
    }
}

fn in_words(error: &Error) -> String {
    let fault = match error {
        Error::InvalidCertificate(fault) => match fault {
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => "its certificate has expired",
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                "its certificate is not valid yet"
            }
            CertificateError::UnknownIssuer => "its certificate is from an issuer that is not known here",
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                "its certificate is for another name"
            }
            CertificateError::Revoked => "its certificate was revoked",
            other => return format!("TLS: {}", not_accepted(&format!("{other:?}"))),
        },
        Error::InvalidMessage(_) => {
            "what answers does not speak TLS: if it speaks plain HTTP, its URL has to begin with http://"
        }
        Error::AlertReceived(alert) => return format!("TLS: it refused ({alert:?})"),
        other => return format!("TLS: {other}"),
    };
    format!("TLS: {fault}")
}

/// What the verifier says of a certificate, and rustls has no name for.
fn not_accepted(fault: &str) -> String {
    // `openssl req -x509` makes such.
    if fault.contains("CaUsedAsEndEntity") {
        return "its certificate is self-signed, or a CA's own: it needs one that a known CA issued to the server"
            .to_owned();
    }
    format!("its certificate is not accepted: {fault}")
}

#[cfg(test)]
mod tests {
    use std::{net::TcpListener, thread, time::Duration};

    use rcgen::{Certificate, CertificateParams, CertifiedIssuer, KeyPair, date_time_ymd};
    use tokio_rustls::rustls::{ServerConfig, ServerConnection, pki_types::PrivateKeyDer};

    use super::*;

    /// Who signs, and whom the settings trust.
    struct Authority(CertifiedIssuer<'static, KeyPair>);

    impl Authority {
        fn new(name: &str) -> Self {
            let mut params = CertificateParams::new(Vec::new()).expect("no names");
            params.distinguished_name.push(rcgen::DnType::CommonName, name);
            params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
            Self(CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("signed"))
        }

        fn settings(&self) -> Arc<ClientConfig> {
            let mut roots = RootCertStore::empty();
            roots.add(self.0.der().clone()).expect("a certificate");
            Arc::new(trusting(roots).expect("safe versions"))
        }

        /// A server of this name, whose certificate ends in that year; it takes one connection.
        fn server(&self, name: &str, ends: i32) -> std::net::SocketAddr {
            let mut params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
            params.not_before = date_time_ymd(2001, 1, 1);
            params.not_after = date_time_ymd(ends, 1, 1);
            let key = KeyPair::generate().expect("a key");
            let certificate = params.signed_by(&key, &self.0).expect("signed");
            server_with(&certificate, &key)
        }
    }

    /// A server with this certificate; it takes one connection.
    fn server_with(certificate: &Certificate, key: &KeyPair) -> std::net::SocketAddr {
        let settings = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("safe versions")
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], PrivateKeyDer::Pkcs8(key.serialize_der().into()))
            .expect("they fit");
        one_connection(move |mut stream| {
            let mut connection = ServerConnection::new(Arc::new(settings)).expect("valid");
            while connection.is_handshaking() && connection.complete_io(&mut stream).is_ok() {}
        })
    }

    /// A server whose certificate is as `openssl req -x509` makes it: signed by itself, and a CA's.
    fn self_signed(name: &str) -> std::net::SocketAddr {
        let mut params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        server_with(&params.self_signed(&key).expect("signed"), &key)
    }

    fn one_connection(serve: impl FnOnce(TcpStream) + Send + 'static) -> std::net::SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address");
        thread::spawn(move || listener.accept().map(|(stream, _)| serve(stream)));
        address
    }

    #[test]
    fn hands_are_shaken_with_whom_is_trusted_and_what_is_wrong_with_others_is_said() {
        let (authority, stranger) = (Authority::new("ours"), Authority::new("nobody's"));
        let plain = one_connection(|mut stream| drop(io::Write::write_all(&mut stream, b"HTTP/1.1 400 Bad\r\n\r\n")));
        let deaf = one_connection(|mut stream| drop(io::Read::read(&mut stream, &mut [0; 4096])));
        let silent = TcpListener::bind("127.0.0.1:0").expect("a free port");
        for (server, expected) in [
            (authority.server("crm.example", 2100), Ok(())),
            (authority.server("crm.example", 2002), Err("TLS: its certificate has expired")),
            (authority.server("else.example", 2100), Err("TLS: its certificate is for another name")),
            (
                stranger.server("crm.example", 2100),
                Err("TLS: its certificate is from an issuer that is not known here"),
            ),
            (
                self_signed("crm.example"),
                Err("TLS: its certificate is self-signed, or a CA's own: it needs one that a known CA issued to the \
                     server"),
            ),
            (
                plain,
                Err("TLS: what answers does not speak TLS: if it speaks plain HTTP, its URL has to begin with http://"),
            ),
            (
                deaf,
                Err(
                    "TLS: the connection was closed within the handshake: if that port does not speak TLS, its URL has to \
                     begin with http://",
                ),
            ),
            // The system takes the connection, and nobody speaks.
            (silent.local_addr().expect("an address"), Err(UNANSWERED)),
        ] {
            let mut stream = TcpStream::connect(server).expect("it listens");
            stream.set_read_timeout(Some(Duration::from_secs(2))).expect("more than nothing");
            let shaken = shake(authority.settings(), "crm.example", &mut stream);
            assert_eq!(shaken, expected.map_err(str::to_owned));
        }
    }

    #[test]
    fn faults_of_certificates_are_told_apart() {
        for (fault, words) in [
            (CertificateError::Expired, "TLS: its certificate has expired"),
            (CertificateError::NotValidYet, "TLS: its certificate is not valid yet"),
            (CertificateError::UnknownIssuer, "TLS: its certificate is from an issuer that is not known here"),
            (CertificateError::NotValidForName, "TLS: its certificate is for another name"),
            (CertificateError::Revoked, "TLS: its certificate was revoked"),
        ] {
            let error = io::Error::new(io::ErrorKind::InvalidData, Error::InvalidCertificate(fault));
            assert_eq!(tls_in_words(&error), words);
        }
        assert_eq!(tls_in_words(&io::ErrorKind::HostUnreachable.into()), "TLS: host unreachable");
    }

    #[test]
    fn who_speaks_tls_is_found_out_whatever_the_certificate() {
        let plain = one_connection(|mut stream| drop(io::Write::write_all(&mut stream, b"HTTP/1.1 400 Bad\r\n\r\n")));
        let deaf = one_connection(|mut stream| drop(io::Read::read(&mut stream, &mut [0; 4096])));
        for (server, expected) in [(self_signed("crm.example"), true), (plain, false), (deaf, false)] {
            let mut stream = TcpStream::connect(server).expect("it listens");
            assert_eq!(speaks_tls("crm.example", &mut stream), expected);
        }
    }
}
