//! A real S3 server: signatures are checked, objects lie in a folder that a test can look at. It runs inside the test
//! process, or is a MinIO of its own where `DRIPFEED_TEST_MINIO` says where the binary is (`tests/run --with-minio`).

use std::{
    collections::BTreeSet,
    ffi::OsString,
    net::{SocketAddr, TcpListener},
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use dripfeed::objects::MinioSettings;
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use s3s::{auth::SimpleAuth, service::S3ServiceBuilder};
use s3s_fs::FileSystem;
use tempfile::TempDir;
use tokio::runtime::Runtime;

use super::{
    app::{agent, files},
    server::closed_port,
};

const ACCESS_KEY: &str = "dripfeed-test";
const SECRET_KEY: &str = "a-secret-for-the-tests";
/// The bucket of [`S3Server::settings`]. Not there until somebody makes it.
pub const BUCKET: &str = "files";
/// Where the binary of MinIO is.
const MINIO: &str = "DRIPFEED_TEST_MINIO";
/// A MinIO that is not ready after so long never is.
const LONGEST_START: Duration = Duration::from_secs(60);

/// A server on a port of its own. Dropping it closes every connection, as a crash would.
pub struct S3Server {
    pub address: SocketAddr,
    running: Running,
}

enum Running {
    Inside(Option<Runtime>),
    Minio { child: Child, _home: TempDir },
}

/// Whether servers are MinIOs.
pub fn is_minio() -> bool {
    minio().is_some()
}

fn minio() -> Option<OsString> {
    std::env::var_os(MINIO).filter(|path| !path.is_empty())
}

impl S3Server {
    /// Serves the buckets that are the folders below `folder`.
    pub fn start(folder: &Path) -> Self {
        match minio() {
            Some(binary) => Self::start_minio(&binary, folder),
            None => Self::start_inside(folder),
        }
    }

    fn start_inside(folder: &Path) -> Self {
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
        Self { address, running: Running::Inside(Some(runtime)) }
    }

    fn start_minio(binary: &OsString, folder: &Path) -> Self {
        let (home, address) = (TempDir::new().expect("a folder"), closed_port());
        let mut command = Command::new(binary);
        command.args(["server", "--quiet", "--address", &address.to_string()]).arg(folder);
        command.env_clear().env("HOME", home.path());
        command.env("MINIO_ROOT_USER", ACCESS_KEY).env("MINIO_ROOT_PASSWORD", SECRET_KEY);
        // No page, no look for news, and a folder on the machine's own disk will do.
        command.env("MINIO_BROWSER", "off").env("MINIO_UPDATE", "off").env("MINIO_CI_CD", "1");
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("MinIO");
        let server = Self { address, running: Running::Minio { child, _home: home } };
        let deadline = Instant::now() + LONGEST_START;
        // Who is not known is turned away; before it is ready it answers 503 to everybody, whatever its health check says.
        let turned_away =
            || agent().get(format!("http://{address}/")).call().is_ok_and(|answer| answer.status() == 403);
        while !turned_away() {
            assert!(Instant::now() < deadline, "MinIO did not start");
            thread::park_timeout(Duration::from_millis(50));
        }
        server
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
        match &mut self.running {
            Running::Inside(runtime) => {
                if let Some(runtime) = runtime.take() {
                    runtime.shutdown_background();
                }
            }
            Running::Minio { child, .. } => {
                // It may have died by itself.
                let _ = (child.kill(), child.wait());
            }
        }
    }
}

/// The stored files of batches that can be seen below `folder`, whichever server keeps them: a file, or a folder of
/// files, with the name of each.
pub fn stored_files(folder: &Path) -> BTreeSet<String> {
    let bucket = folder.join(BUCKET);
    let found = files(folder).into_iter().filter_map(|file| {
        let name = file.strip_prefix(&bucket).ok()?.iter().next()?.to_string_lossy().into_owned();
        name.starts_with("bat_").then_some(name)
    });
    found.collect()
}
