//! The data folder of before, where it is at hand: it tells a restore what was ended, changed and deleted since the backup was
//! taken, and the same is done in what is restored.

use std::{
    fmt::Display,
    fs::{self, File},
    io,
    os::unix::fs::DirBuilderExt,
    path::Path,
};

use super::{
    BackupError, DATABASE, MANIFEST, PlaceName, at, manifest::Manifest, place::remove_folder, restore::Target,
    revived::Revived,
};
use crate::{
    crypto::{Locked, MacKey, same},
    keys,
    model::BatchId,
    store::{
        Store, StoreError, backups, dependencies,
        ended::{self, Standing},
        operators,
    },
};

/// In the staging folder, a copy of its database.
const COPY: &str = "old";

/// What came of it.
#[derive(Default)]
pub(super) struct Since {
    /// What was ended or changed.
    pub revived: Revived,
    /// Whether that was done here too.
    pub ended: bool,
    /// Batches that were deleted, and are deleted here too.
    pub deleted: Vec<BatchId>,
}

/// Refuses what can tell nothing: a backup, and what cannot be read.
pub(super) fn must_be_data_folder(old: &Path) -> Result<(), BackupError> {
    let is_in_bucket = matches!(old.to_string_lossy().parse(), Ok(PlaceName::Bucket(_)));
    if is_in_bucket || old.join(MANIFEST).exists() {
        return Err(BackupError::OldIsBackup(old.to_owned()));
    }
    File::open(old.join(DATABASE)).map(drop).map_err(|error| unreadable(old, format_args!("{DATABASE}: {error}")))
}

/// Looks what was ended and deleted there since the backup was taken, and does the same here.
pub(super) fn carry_over(
    staging: &Path,
    old: &Path,
    manifest: &Manifest,
    target: &Target<'_>,
) -> Result<Since, BackupError> {
    let store = Store::open(staging, target.config.database, target.clock.clone())?;
    let identity = keys::unlock(&store, target.ring)?;
    let (its_identity, late) = look(&staging.join(COPY), old, target)?;
    // Each backup is noted before it is taken: who has no note of it is another, or older.
    if !same(its_identity.as_bytes(), identity.as_bytes()) || !late.backups.contains(&manifest.taken_at) {
        return Err(BackupError::NotOfOld(old.to_owned()));
    }
    let early = store.read(ended::standing)?;
    let revived = Revived::between(&early, &late, target.ring, target.clock.now());
    let ended = !revived.is_empty() && (target.ends)(&revived)?;
    if ended {
        end(&store, &revived, &early, &late, target)?;
    }
    let deleted: Vec<BatchId> = early.batches.difference(&late.batches).copied().collect();
    let (batches, kept) = (deleted.clone(), target.config.backup.copies_kept());
    store.write(move |tx| batches.iter().try_for_each(|id| ended::delete(tx, *id, kept).map(drop)))?;
    Ok(Since { revived, ended, deleted })
}

/// What its database says: a copy of it, as to look at a database may change it.
fn look(copied: &Path, old: &Path, target: &Target<'_>) -> Result<(Locked<MacKey>, Standing), BackupError> {
    fs::DirBuilder::new().mode(0o700).create(copied).map_err(at(copied))?;
    for file in backups::database_files(old).iter().filter(|file| file.exists()) {
        copy(file, &copied.join(file.file_name().unwrap_or_default()), old)?;
    }
    let looked = {
        let store = Store::open(copied, target.config.database, target.clock.clone());
        let store = store.map_err(|error| unsound(old, &error))?;
        let identity = keys::unlock(&store, target.ring).map_err(|error| unreadable(old, error))?;
        (identity, store.read(ended::standing).map_err(|error| unsound(old, &error))?)
    };
    remove_folder(copied)?;
    Ok(looked)
}

fn copy(file: &Path, to: &Path, old: &Path) -> Result<(), BackupError> {
    let of_old = |error| unreadable(old, format_args!("{}: {error}", file.display()));
    let mut reader = File::open(file).map_err(of_old)?;
    let mut writer = File::create_new(to).map_err(at(to))?;
    match io::copy(&mut reader, &mut writer) {
        Err(error) if error.kind() == io::ErrorKind::StorageFull => Err(BackupError::File(to.to_owned(), error)),
        copied => copied.map(drop).map_err(of_old),
    }
}

/// Does here what was done there.
fn end(
    store: &Store,
    revived: &Revived,
    early: &Standing,
    late: &Standing,
    target: &Target<'_>,
) -> Result<(), StoreError> {
    let (operators, roles, keys) = (revived.operators.clone(), revived.roles_of(late), revived.keys_of(late));
    let webhooks = revived.webhooks_of(early, late, target.ring);
    let (limits, rates, stops) = (revived.limits_of(late), revived.rates_of(late), revived.stops_of(late));
    let default_rows = target.config.dispatch.rows_per_client_per_run;
    store.write(move |tx| {
        operators.iter().try_for_each(|name| operators::remove(tx, name).map(drop))?;
        roles.iter().try_for_each(|(name, role)| operators::set_role(tx, name, *role).map(drop))?;
        keys.iter().try_for_each(|(name, keys)| ended::set_keys(tx, name, keys.as_ref()))?;
        webhooks.iter().try_for_each(|(name, sealed)| ended::set_webhook(tx, name, sealed.as_ref()))?;
        limits.iter().try_for_each(|(name, limits)| ended::set_limits(tx, name, limits, default_rows))?;
        rates.iter().try_for_each(|(name, rate)| dependencies::set_rate(tx, name, *rate))?;
        stops.iter().try_for_each(|(id, stop)| ended::stop(tx, *id, stop))
    })
}

fn unreadable(old: &Path, why: impl Display) -> BackupError {
    BackupError::OldUnreadable { old: old.to_owned(), why: why.to_string() }
}

/// What a server would have to do about its own damaged database is nothing that helps here.
fn unsound(old: &Path, error: &StoreError) -> BackupError {
    match error {
        StoreError::Corrupt(_) => unreadable(old, "its database is damaged"),
        error => unreadable(old, error),
    }
}
