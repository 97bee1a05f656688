//! A real S3 server inside the test process: signatures are checked, objects lie in a folder that a test can look at.

use std::{
    net::{SocketAddr, TcpListener},
    path::Path,
};

use dripfeed::objects::MinioSettings;
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use s3s::{auth::SimpleAuth, service::S3ServiceBuilder};
use s3s_fs::FileSystem;
use tokio::runtime::Runtime;

const ACCESS_KEY: &str = "dripfeed-test";
const SECRET_KEY: &str = "a-secret-for-the-tests";
/// The bucket of [`S3Server::settings`]. Not there until somebody makes it.
pub const BUCKET: &str = "files";

/// A server on a port of its own. Dropping it closes every connection, as a crash would.
pub struct S3Server {
    pub address: SocketAddr,
    runtime: Option<Runtime>,
}

impl S3Server {
    /// Serves the buckets that are the folders below `folder`.
    pub fn start(folder: &Path) -> Self {
        let mut service = S3ServiceBuilder::new(FileSystem::new(folder).expect("a folder to serve"));
        service.set_auth(SimpleAuth::from_single(ACCESS_KEY, SECRET_KEY));
        let service = service.build();

        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("a bound socket");
        listener.set_nonblocking(true).expect("a socket");
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
        runtime.spawn(async move {
            let listener = tokio::net::TcpListener::from_std(listener).expect("a listening socket");
            while let Ok((connection, _)) = listener.accept().await {
                let service = service.clone();
                tokio::spawn(async move {
                    // A client that goes away is no fault of the server's.
                    let http = auto::Builder::new(TokioExecutor::new());
                    let _ = http.serve_connection(TokioIo::new(connection), service).await;
                });
            }
        });
        Self { address, runtime: Some(runtime) }
    }

    /// What a client needs to be let in.
    pub fn settings(&self) -> MinioSettings {
        MinioSettings {
            endpoint: format!("http://{}", self.address),
            bucket: BUCKET.into(),
            access_key: ACCESS_KEY.into(),
            secret_key: SECRET_KEY.into(),
        }
    }
}

impl Drop for S3Server {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
