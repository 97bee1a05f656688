//! A client that uploads one file after another, and does not give up on a server that dies under it.

use std::{
    sync::{
        Arc, Condvar, Mutex,
        mpsc::{Receiver, Sender, channel},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use serde_json::Value;

use crate::{
    files::CsvFile,
    support::app::{DEADLINE, agent},
};

/// Between two tries; a dying server's address is known for a moment longer than it listens.
const TRY_AGAIN: Duration = Duration::from_millis(10);

/// Where the server can be reached, while it can be.
#[derive(Clone, Default)]
pub struct Door(Arc<(Mutex<Option<String>>, Condvar)>);

impl Door {
    pub fn open(&self, url: &str) {
        *self.0.0.lock().expect("the door") = Some(url.to_owned());
        self.0.1.notify_all();
    }

    pub fn close(&self) {
        *self.0.0.lock().expect("the door") = None;
    }

    fn wait(&self) -> String {
        let closed = self.0.0.lock().expect("the door");
        let (open, _) = self.0.1.wait_timeout_while(closed, DEADLINE, |url| url.is_none()).expect("the door");
        open.clone().expect("a server that listens, in time")
    }
}

/// A file that became a batch.
pub struct Uploaded {
    /// The client's.
    pub key: String,
    /// The batch.
    pub id: String,
    pub file: CsvFile,
}

/// A client's thread.
pub struct Uploader {
    files: Sender<CsvFile>,
    thread: JoinHandle<Vec<Uploaded>>,
}

impl Uploader {
    pub fn start(key: String, door: Door) -> Self {
        let (files, to_do) = channel();
        let thread = thread::spawn(move || upload_all(&key, &door, &to_do));
        Self { files, thread }
    }

    /// Leaves it a file to upload.
    pub fn begin(&self, file: CsvFile) {
        self.files.send(file).expect("an uploader at work");
    }

    /// Waits until every file is a batch.
    pub fn finish(self) -> Vec<Uploaded> {
        drop(self.files);
        self.thread.join().expect("an uploader that got its files through")
    }
}

fn upload_all(key: &str, door: &Door, files: &Receiver<CsvFile>) -> Vec<Uploaded> {
    files.iter().map(|file| Uploaded { key: key.to_owned(), id: upload(key, door, &file), file }).collect()
}

/// Tries until it hears that the file is a batch, now or since a try whose answer was lost.
fn upload(key: &str, door: &Door, file: &CsvFile) -> String {
    let body = file.body();
    loop {
        let request = agent()
            .post(format!("{}{}", door.wait(), file.workflow.upload_path()))
            .header("Authorization", format!("Bearer {key}"))
            .header("Content-Type", "text/csv");
        let answer = request.send(&body).and_then(|mut response| {
            let text = response.body_mut().read_to_string()?;
            Ok((response.status().as_u16(), text))
        });
        let Ok((status, text)) = answer else {
            thread::park_timeout(TRY_AGAIN);
            continue;
        };
        let answer: Value = serde_json::from_str(&text).expect("JSON");
        let id = match (status, &answer["code"]) {
            (202, _) => &answer["id"],
            (409, code) if code == "duplicate_file" => &answer["batch"],
            _ => panic!("file {} was answered {status}: {answer}", file.number),
        };
        return id.as_str().expect("a batch").to_owned();
    }
}
