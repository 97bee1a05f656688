//! The names of a bucket's objects.

use futures_util::StreamExt;
use minio::s3::types::ToStream;

use super::{ANSWER_LIMIT, Bucket, ObjectError};

/// What no name has in it: the client would send an empty delimiter for "none", which not every store takes for that.
const NO_DELIMITER: &str = "|";

impl Bucket {
    /// Every name that begins so, sorted. An answer of the store has up to a thousand.
    pub(in crate::objects) fn names(&self, prefix: &str) -> Result<Vec<String>, ObjectError> {
        let listing = self.client.list_objects(&self.name).map_err(|error| self.sort(&error.into()))?;
        let request = listing.prefix(Some(prefix.to_owned())).delimiter(Some(NO_DELIMITER.to_owned())).build();
        let mut answers = self.runtime.block_on(request.to_stream());
        let mut names = Vec::new();
        loop {
            let next = self.runtime.block_on(async { tokio::time::timeout(ANSWER_LIMIT, answers.next()).await });
            match next.map_err(|_| self.silent())? {
                Some(answer) => {
                    let answer = answer.map_err(|error| self.sort(&error))?;
                    names.extend(answer.contents.into_iter().map(|entry| entry.name));
                }
                None => break,
            }
        }
        names.sort();
        Ok(names)
    }
}
