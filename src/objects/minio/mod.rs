//! Objects in a MinIO bucket, or any other that speaks S3, through MinIO's own client.
//!
//! The client is async and its callers here are not: each call runs on the runtime that the bucket was given, and its
//! caller waits for it, no longer than a named limit, because the client has no time limit of its own.

mod list;
mod read;
mod versions;
mod write;

use std::{
    fmt,
    future::Future,
    io::Read,
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use minio::s3::{
    MinioClient, MinioClientBuilder,
    creds::StaticProvider,
    error::{Error, NetworkError, S3ServerError, ValidationErr},
    http::BaseUrl,
    minio_error_response::{MinioErrorCode, MinioErrorResponse},
    types::{BucketName, S3Api},
};
use tokio::runtime::Handle;

use super::{ObjectError, name::ObjectName};

use read::BucketReader;
pub use versions::Keeping;
pub(super) use write::BucketWriter;

/// No answer for so long means that the store is not available.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);

const CREDENTIALS: &str = "see access_key and secret_key under [objects], and what that user's policy allows";
const BUCKET: &str = "make the bucket, or correct `bucket` under [objects]";
const ENDPOINT: &str = "see endpoint and bucket under [objects]";

/// Where the bucket is, and who asks.
#[derive(Clone)]
pub struct MinioSettings {
    /// `http://HOST:PORT` or `https://HOST:PORT`, with no path.
    pub endpoint: String,
    /// The bucket's name.
    pub bucket: String,
    /// The name of the credentials.
    pub access_key: String,
    /// Their secret.
    pub secret_key: String,
}

impl fmt::Debug for MinioSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MinioSettings")
            .field("endpoint", &self.endpoint)
            .field("bucket", &self.bucket)
            .field("access_key", &"…")
            .field("secret_key", &"…")
            .finish()
    }
}

/// A bucket, the client to ask it with, and the runtime that the client runs on.
#[derive(Clone)]
pub(super) struct Bucket {
    client: MinioClient,
    name: BucketName,
    runtime: Handle,
    endpoint: String,
    /// Whether a deletion was answered with a marker: then the versions have to be deleted, too.
    has_versions: Arc<AtomicBool>,
}

impl Bucket {
    pub(super) fn new(settings: &MinioSettings, runtime: Handle) -> Result<Self, ObjectError> {
        let refused = |error: &dyn fmt::Display| ObjectError::Refused {
            store: describe(&settings.bucket, &settings.endpoint),
            cause: error.to_string(),
            hint: ENDPOINT,
        };
        let endpoint: BaseUrl = settings.endpoint.parse().map_err(|error: ValidationErr| refused(&error))?;
        let credentials = StaticProvider::new(&settings.access_key, &settings.secret_key, None);
        let client = MinioClientBuilder::new(endpoint)
            .provider(Some(credentials))
            // MinIO has one region; to ask for it would need a right that upload credentials often lack.
            .skip_region_lookup(true)
            .build()
            .map_err(|error| refused(&error))?;
        let name = BucketName::new(&settings.bucket).map_err(|error| refused(&error))?;
        Ok(Self { client, name, runtime, endpoint: settings.endpoint.clone(), has_versions: Arc::default() })
    }

    pub(super) fn check(&self) -> Result<(), ObjectError> {
        self.wait(async {
            if !self.client.bucket_exists(&self.name)?.build().send().await?.exists() {
                self.client.create_bucket(&self.name)?.build().send().await?;
            }
            Ok(())
        })
    }

    pub(super) fn must_be_there(&self) -> Result<(), ObjectError> {
        let is_there =
            self.wait(async { Ok(self.client.bucket_exists(&self.name)?.build().send().await?.exists()) })?;
        let cause = "there is no such bucket".to_owned();
        if is_there { Ok(()) } else { Err(ObjectError::Refused { store: self.to_string(), cause, hint: BUCKET }) }
    }

    pub(super) fn create(&self, name: &ObjectName) -> Result<BucketWriter, ObjectError> {
        BucketWriter::new(self.clone(), name)
    }

    pub(super) fn open(&self, name: &ObjectName) -> Result<impl Read + Send + use<>, ObjectError> {
        let (stream, _length) = self.wait(async {
            let answer = self.client.get_object(&self.name, name.as_str())?.build().send().await?;
            answer.into_boxed_stream()
        })?;
        Ok(BucketReader::new(self.clone(), stream))
    }

    /// Waits for one exchange with the store.
    fn wait<T>(&self, exchange: impl Future<Output = Result<T, Error>>) -> Result<T, ObjectError> {
        let answer = self.runtime.block_on(async { tokio::time::timeout(ANSWER_LIMIT, exchange).await });
        answer.map_err(|_| self.silent())?.map_err(|error| self.sort(&error))
    }

    /// The store said nothing for [`ANSWER_LIMIT`].
    fn silent(&self) -> ObjectError {
        self.unavailable(format!("no answer for {} s", ANSWER_LIMIT.as_secs()))
    }

    fn unavailable(&self, cause: String) -> ObjectError {
        ObjectError::Unavailable { store: self.to_string(), cause }
    }

    fn refused(&self, cause: String, hint: &'static str) -> ObjectError {
        ObjectError::Refused { store: self.to_string(), cause, hint }
    }

    /// Sorts an error of the client by what to do about it.
    fn sort(&self, error: &Error) -> ObjectError {
        match error {
            Error::S3Server(S3ServerError::S3Error(answer)) => self.sort_answer(answer),
            // Not S3's own form: a proxy in front, or something else altogether.
            Error::S3Server(
                S3ServerError::InvalidServerResponse { http_status_code: status, .. }
                | S3ServerError::HttpError(status, _),
            )
            | Error::Network(NetworkError::ServerError(status)) => {
                let cause = format!("HTTP status {status}");
                if may_pass(*status) { self.unavailable(cause) } else { self.refused(cause, ENDPOINT) }
            }
            Error::Network(NetworkError::ReqwestError(_)) | Error::Validation(ValidationErr::HttpError(_)) => {
                self.unavailable(innermost(error))
            }
            Error::DriveIo(_) | Error::Validation(_) => self.refused(innermost(error), ENDPOINT),
        }
    }

    fn sort_answer(&self, answer: &MinioErrorResponse) -> ObjectError {
        let code = answer.code();
        // The server's message stays out: it may quote the request.
        let cause = code.to_string();
        match code {
            MinioErrorCode::NoSuchKey => ObjectError::NotFound { store: self.to_string() },
            MinioErrorCode::NoSuchBucket => self.refused("there is no such bucket".into(), BUCKET),
            MinioErrorCode::AccessDenied => self.refused("access denied".into(), CREDENTIALS),
            // Codes that the client does not know, which it gives in lower case.
            MinioErrorCode::OtherError(other) => match other.as_str() {
                "signaturedoesnotmatch" | "invalidaccesskeyid" => {
                    self.refused("the credentials are not right".into(), CREDENTIALS)
                }
                "requesttimetooskewed" => self.refused(
                    "the clocks of the two machines differ by more than 15 minutes".into(),
                    "set the clock of this machine or of the store's",
                ),
                "xminiostoragefull" | "quotaexceeded" | "xminioadminbucketquotaexceeded" => {
                    ObjectError::Full { store: self.to_string() }
                }
                "slowdown"
                | "slowdownread"
                | "slowdownwrite"
                | "internalerror"
                | "serviceunavailable"
                | "requesttimeout"
                | "operationaborted"
                | "serverbusy"
                | "xminioservernotinitialized" => self.unavailable(cause),
                _ => self.refused(cause, ENDPOINT),
            },
            _ => self.refused(cause, ENDPOINT),
        }
    }
}

impl fmt::Display for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&describe(self.name.as_str(), &self.endpoint))
    }
}

fn describe(bucket: &str, endpoint: &str) -> String {
    format!("the bucket {bucket} at {endpoint}")
}

fn may_pass(status: u16) -> bool {
    status >= 500 || status == 429 || status == 408
}

/// The client's errors hide their cause ("Validation error occurred"); the last of the chain is what happened.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(endpoint: &str, bucket: &str) -> MinioSettings {
        let secret = "SECRET".to_owned();
        MinioSettings {
            endpoint: endpoint.into(),
            bucket: bucket.into(),
            access_key: secret.clone(),
            secret_key: secret,
        }
    }

    #[test]
    fn settings_show_no_credentials_and_faults_say_where_to_look() {
        assert!(!format!("{:?}", settings("http://127.0.0.1:9000", "files")).contains("SECRET"));
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        for (endpoint, bucket) in [("ftp://store", "files"), ("http://store/path", "files"), ("http://store", "x")] {
            let Err(error) = Bucket::new(&settings(endpoint, bucket), runtime.handle().clone()) else {
                panic!("{endpoint} {bucket} was taken");
            };
            assert!(error.to_string().contains("under [objects]") && !error.to_string().contains("SECRET"), "{error}");
            assert!(!error.is_transient());
        }
    }
}
