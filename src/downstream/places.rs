//! Places: how the rows that may be under way are shared out among dependencies, so that an API that hangs does not take all of
//! them, however many requests to it are allowed at once.
//!
//! A few places belong to each dependency alone; the rest is for all, as they come. So one that is alone may use nearly all, and
//! one that comes when the others have filled everything finds its own free. A row takes one place, at the dependency of
//! the step that it is at.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use super::lane::Lane;

/// The part of all places that belongs to single dependencies, each an equal share of it: an eighth. What is not used of it costs
/// the others little, and an API that answers within some milliseconds needs few for any rate.
const KEPT: usize = 8;

/// All places of a process.
#[derive(Debug)]
pub(super) struct Places {
    /// So many belong to each dependency.
    own: usize,
    /// So many are for all, ...
    common: usize,
    /// ... of which so many are taken.
    taken: AtomicUsize,
}

impl Places {
    /// So many, for so many dependencies. Where there are not even two for each, nobody has any alone.
    pub fn new(all: usize, dependencies: usize) -> Self {
        let dependencies = dependencies.max(1);
        let least = usize::from(all >= 2 * dependencies);
        let own = if dependencies == 1 { 0 } else { (all / KEPT / dependencies).max(least) };
        Self { own, common: all - own * dependencies, taken: AtomicUsize::new(0) }
    }

    /// The most that one dependency can have.
    pub fn most(&self) -> usize {
        self.own + self.common
    }

    /// How many more a dependency can have that has so many.
    pub fn left(&self, held: usize) -> usize {
        let common = self.common.saturating_sub(self.taken.load(Ordering::Acquire));
        self.own.saturating_sub(held) + common
    }

    /// Takes one for a dependency that has so many, though there be none left: it was asked before.
    fn take(&self, held: &mut usize) {
        if *held >= self.own {
            self.taken.fetch_add(1, Ordering::AcqRel);
        }
        *held += 1;
    }

    /// Takes one, where one is left.
    fn try_take(&self, held: &mut usize) -> bool {
        let free = |taken: usize| (taken < self.common).then_some(taken + 1);
        let has = *held < self.own || self.taken.fetch_update(Ordering::AcqRel, Ordering::Acquire, free).is_ok();
        *held += usize::from(has);
        has
    }

    /// Gives one back.
    fn give_back(&self, held: &mut usize) {
        debug_assert!(*held > 0, "more places are given back than were taken");
        *held = held.saturating_sub(1);
        if *held >= self.own {
            self.taken.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

/// A row's place. Dropped, it is given back.
pub(super) struct Place {
    at: Arc<Lane>,
}

impl Place {
    /// At this dependency.
    pub fn at(lane: &Arc<Lane>) -> Self {
        lane.places.take(&mut lane.lock().held);
        Self { at: lane.clone() }
    }

    /// Moves to another dependency, where a place is left there. One that was common stays so: that always works.
    pub fn move_to(&mut self, lane: &Arc<Lane>) -> bool {
        if Arc::ptr_eq(&self.at, lane) {
            return true;
        }
        self.at.places.give_back(&mut self.at.lock().held);
        let has_moved = lane.places.try_take(&mut lane.lock().held);
        match has_moved {
            true => self.at = lane.clone(),
            false => self.at.places.take(&mut self.at.lock().held),
        }
        has_moved
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.at.places.give_back(&mut self.at.lock().held);
    }
}

impl Lane {
    /// How many places rows have here, where there is none for another one.
    pub(super) fn out_of_places(&self) -> Option<usize> {
        let held = self.lock().held;
        (self.places.left(held) == 0).then_some(held)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_alone_may_have_nearly_all_and_another_one_finds_its_own() {
        let places = Places::new(4_096, 4);
        let (mut hanging, mut other) = (0, 0);
        while places.try_take(&mut hanging) {}
        assert_eq!((hanging, places.most(), places.left(hanging)), (3_712, 3_712, 0));
        while places.try_take(&mut other) {}
        assert_eq!((other, places.left(0)), (128, 128), "and the two others still have theirs");
        places.give_back(&mut hanging);
        assert_eq!([places.left(hanging), places.left(other)], [1, 1]);
        assert!(places.try_take(&mut other) && places.left(hanging) == 0);
        (0..other).for_each(|_| places.give_back(&mut other));
        assert_eq!((other, places.left(hanging)), (0, 1));
    }

    #[test]
    fn all_that_is_shared_out_is_all_there_is() {
        for (all, dependencies) in [(1, 1), (1, 5), (9, 5), (10, 5), (64, 3), (4_096, 1), (4_096, 3), (65_536, 1_000)] {
            let places = Places::new(all, dependencies);
            assert_eq!(places.own * dependencies + places.common, all, "{all} for {dependencies}");
            assert!(places.own > 0 || dependencies == 1 || all < 2 * dependencies, "{all} for {dependencies}");
            assert!(places.most() + all / KEPT + dependencies >= all, "{all} for {dependencies}");
        }
    }
}
