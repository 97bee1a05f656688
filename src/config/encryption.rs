//! `[encryption]`: where the keys come from. The first of these that is there: `DRIPFEED_KEYS`, the open file that
//! `DRIPFEED_KEYS_FD` names, a credential of systemd's, the key file.

use std::{
    fmt,
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use zeroize::Zeroizing;

use super::{reader::Section, secret::Secret};
use crate::private;

/// The key file, beside the configuration; and what a credential of systemd's is called (`LoadCredential=dripfeed.keys:...`).
pub const KEY_FILE: &str = "dripfeed.keys";
/// Room for the keys of most rings, so that reading them leaves no copy behind in memory.
const KEY_FILE_BYTES: usize = 16 << 10;

/// `[encryption]`
#[derive(Debug, Clone)]
pub struct Encryption {
    /// `key_file`: lines of `id:base64 of 32 bytes`, beside the configuration where it is no absolute path. Default
    /// `dripfeed.keys`.
    pub key_file: PathBuf,
    /// `allow_readable_key_file`: takes a key file that others than its owner may open, too. Default false.
    pub allow_readable_key_file: bool,
    /// What takes the key file's place.
    instead: Option<Instead>,
}

#[derive(Debug, Clone)]
enum Instead {
    /// `DRIPFEED_KEYS`
    Variable(Secret),
    /// `DRIPFEED_KEYS_FD`: a file that was opened by whoever started us.
    Descriptor(u32),
    /// In the folder that systemd names in `CREDENTIALS_DIRECTORY`.
    Credential(PathBuf),
}

/// Why there is no text of a key ring.
#[derive(Debug, thiserror::Error)]
pub enum NoKeys {
    /// It cannot be read.
    #[error("{0}: {1}")]
    Unreadable(String, io::Error),
    /// Others could have read it, or could change it.
    #[error(
        "the key file {path} may be opened by others than its owner (mode {mode:04o}): `chmod 600 {path}`, and think of \
         whether somebody has read it; or set `encryption.allow_readable_key_file = true` where that is meant",
        path = .path.display()
    )]
    OpenToOthers {
        /// The key file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
}

impl Encryption {
    pub(super) fn read(mut section: Section<'_>) -> Self {
        let instead = match (section.env("DRIPFEED_KEYS"), section.env("DRIPFEED_KEYS_FD")) {
            (Some(keys), _) => Some(Instead::Variable(Secret::new(keys))),
            (None, Some(number)) => {
                let number = number.parse();
                if number.is_err() {
                    section.fault("key_file", "DRIPFEED_KEYS_FD is the number of an open file, like 3");
                }
                number.ok().map(Instead::Descriptor)
            }
            (None, None) => {
                let credential = section.env("CREDENTIALS_DIRECTORY").map(|folder| Path::new(&folder).join(KEY_FILE));
                credential.filter(|path| path.exists()).map(Instead::Credential)
            }
        };
        let key_file = section.text("key_file").map_or_else(|| PathBuf::from(KEY_FILE), PathBuf::from);
        let allow_readable_key_file = section.flag("allow_readable_key_file", false);
        section.finish();
        Self { key_file, allow_readable_key_file, instead }
    }

    /// The same for a configuration in this folder: the key file lies there.
    pub(super) fn beside(mut self, folder: &Path) -> Self {
        self.key_file = folder.join(self.key_file);
        self
    }

    /// The file that the keys are read from; `None` where they come from no file that lies somewhere.
    pub fn file(&self) -> Option<&Path> {
        match &self.instead {
            None => Some(&self.key_file),
            Some(Instead::Credential(path)) => Some(path),
            Some(Instead::Variable(_) | Instead::Descriptor(_)) => None,
        }
    }

    /// The same once more, from what can be read more than once: a pipe that somebody still holds open would be waited for without end.
    pub fn read_keys_again(&self) -> Result<Zeroizing<String>, NoKeys> {
        if let Some(Instead::Descriptor(number)) = &self.instead {
            private::regular_file(&descriptor(*number)).map_err(|error| NoKeys::Unreadable(self.to_string(), error))?;
        }
        self.read_keys()
    }

    /// The text of the key ring. One that comes through a pipe is there once.
    pub fn read_keys(&self) -> Result<Zeroizing<String>, NoKeys> {
        let (path, opened) = match &self.instead {
            Some(Instead::Variable(keys)) => return Ok(Zeroizing::new(keys.expose().to_owned())),
            Some(Instead::Descriptor(number)) => {
                let path = descriptor(*number);
                let opened = File::open(&path);
                (path, opened)
            }
            Some(Instead::Credential(path)) => (path.clone(), private::regular_file(path)),
            None => (self.key_file.clone(), private::regular_file(&self.key_file)),
        };
        let unreadable = |error| NoKeys::Unreadable(self.to_string(), error);
        let mut file = opened.map_err(unreadable)?;
        // Of the file that is read, and not of one that takes its place meanwhile.
        let open = private::open_to_others(&file.metadata().map_err(unreadable)?);
        if let Some(mode) = open.filter(|_| !self.allow_readable_key_file) {
            return Err(NoKeys::OpenToOthers { path, mode });
        }
        let mut text = Zeroizing::new(String::with_capacity(KEY_FILE_BYTES));
        file.read_to_string(&mut text).map_err(unreadable)?;
        Ok(text)
    }
}

/// Where a file lies that is open already.
fn descriptor(number: u32) -> PathBuf {
    format!("/proc/self/fd/{number}").into()
}

/// Where the keys come from.
impl fmt::Display for Encryption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.instead {
            Some(Instead::Variable(_)) => f.write_str("DRIPFEED_KEYS"),
            Some(Instead::Descriptor(number)) => write!(f, "the open file {number} (DRIPFEED_KEYS_FD)"),
            Some(Instead::Credential(path)) => write!(f, "the credential {}", path.display()),
            None => write!(f, "{}", self.key_file.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use super::*;
    use crate::config::Config;

    fn encryption(toml: &str, variables: &[(&str, &str)]) -> Encryption {
        let variable = |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, it)| (*it).to_owned());
        let text = format!(
            "[encryption]\n{toml}\n[dependencies.addresses]\nbase_url = \"http://127.0.0.1:1\"\n\
                            rate_per_second = 1\n[dependencies.invites]\nbase_url = \"http://127.0.0.1:1\"\nrate_per_second = 1"
        );
        Config::from_toml(&text, &variable).expect("a configuration").encryption
    }

    #[test]
    fn keys_come_from_the_first_place_that_has_them() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = folder.path();
        let write = |name: &str, mode| {
            fs::write(at.join(name), name).expect("written");
            fs::set_permissions(at.join(name), fs::Permissions::from_mode(mode)).expect("a mode");
        };
        fs::create_dir(at.join("credentials")).expect("a folder");
        write("credentials/dripfeed.keys", 0o400);
        write("dripfeed.keys", 0o600);
        let credentials = at.join("credentials").display().to_string();
        let (none, credential) = ([], [("CREDENTIALS_DIRECTORY", credentials.as_str())]);
        let empty = [("CREDENTIALS_DIRECTORY", "/nowhere")];
        let variable = [credential[0], ("DRIPFEED_KEYS", "k:x")];
        let read = |variables: &[(&str, &str)]| {
            let encryption = encryption("", variables).beside(at);
            encryption.read_keys().expect("keys").to_string()
        };
        assert_eq!(read(&none), "dripfeed.keys");
        assert_eq!(read(&empty), "dripfeed.keys");
        assert_eq!(read(&credential), "credentials/dripfeed.keys");
        assert_eq!(read(&variable), "k:x");
        let missing = encryption("", &[("DRIPFEED_KEYS_FD", "9999")]).read_keys().expect_err("not open").to_string();
        assert!(missing.starts_with("the open file 9999 (DRIPFEED_KEYS_FD): "), "{missing}");
        let elsewhere = encryption("key_file = \"/run/secrets/keys\"", &none).beside(at);
        assert_eq!(elsewhere.file(), Some(Path::new("/run/secrets/keys")));
    }

    #[test]
    fn a_key_file_that_others_may_open_is_refused_unless_that_is_meant() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join(KEY_FILE);
        fs::write(&path, "k:x").expect("written");
        let read = |toml| encryption(toml, &[]).beside(folder.path()).read_keys();
        for mode in [0o644, 0o640, 0o620, 0o602] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("a mode");
            let refused = read("").expect_err("others may open it").to_string();
            assert!(refused.contains(&format!("{mode:04o}")) && refused.contains("chmod 600"), "{refused}");
            assert!(read("allow_readable_key_file = true").is_ok());
        }
    }
}
