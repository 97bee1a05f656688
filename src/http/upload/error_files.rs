//! Files of errors on their way: so many for each client, and so many over all.
//!
//! Each lies on the disk, and has files open and memory of its own, until its caller has taken it. So there are few, and a
//! client that takes none of its own keeps no other from theirs. Who finds no place is refused nothing: the upload is judged
//! as ever, and its first errors come as a problem.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// What one client can have: as many as the uploads that it may have at once, where nothing else is configured.
const OF_CLIENT: usize = 2;

/// The places.
pub struct ErrorFiles {
    most: usize,
    /// How many each client has, of those that have any.
    taken: Mutex<HashMap<i64, usize>>,
}

/// A place for a file of errors, from the first byte of its upload to the last one of its answer; taken until this is dropped.
pub struct ErrorPlace {
    files: Arc<ErrorFiles>,
    client: i64,
}

impl ErrorFiles {
    /// What all clients together can have: two open files each, and less than 16 MiB of memory for all.
    pub const MOST: usize = 64;

    /// So many, where not even the most may be.
    pub fn up_to(most: usize) -> Arc<Self> {
        Arc::new(Self { most, taken: Mutex::default() })
    }

    /// A place for this client, if there is one now.
    pub fn take(self: &Arc<Self>, client: i64) -> Option<ErrorPlace> {
        let mut taken = self.taken();
        let own = taken.get(&client).copied().unwrap_or_default();
        if own >= OF_CLIENT || taken.values().sum::<usize>() >= self.most {
            return None;
        }
        taken.insert(client, own + 1);
        Some(ErrorPlace { files: self.clone(), client })
    }

    fn taken(&self) -> MutexGuard<'_, HashMap<i64, usize>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for ErrorPlace {
    fn drop(&mut self) {
        let mut taken = self.files.taken();
        if let Some(own) = taken.get_mut(&self.client) {
            *own -= 1;
            if *own == 0 {
                taken.remove(&self.client);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_has_two_and_keeps_no_other_from_its_own() {
        let files = ErrorFiles::up_to(ErrorFiles::MOST);
        let [first, _second] = [(); 2].map(|()| files.take(1).expect("a place"));
        assert!(files.take(1).is_none());
        let other = files.take(2);
        assert!(other.is_some(), "another client's");
        drop(first);
        assert!(files.take(1).is_some(), "it is free again");
        drop(other);
        assert_eq!(files.taken().len(), 1, "nobody is remembered who has none");
    }

    #[test]
    fn all_clients_together_have_so_many() {
        let files = ErrorFiles::up_to(9);
        let mut all: Vec<_> = (0..).map_while(|number| files.take(number)).collect();
        assert_eq!(all.len(), 9);
        all.pop();
        assert!(files.take(-1).is_some_and(|_| files.take(-2).is_none()));
    }
}
