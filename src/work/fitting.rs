//! Which of the rows that are to be claimed there is memory for.
//!
//! Rows can be a megabyte wide, and thousands may be under way. One that is no wider than its share (half of the room, over as
//! many as may be under way) always has room: all of them together take half of it at most. The wider ones have the other half
//! between them, one of each pile in turn; behind the first that does not fit none does, so that narrower ones do not go ahead of
//! it for ever.
//!
//! A small part of that belongs to single dependencies, so that one that hangs does not have all of it: a row takes what its own
//! has left, and the rest of what is common to all.

use std::collections::{BTreeMap, VecDeque};

/// The part of the room for wide rows that belongs to single dependencies, each an equal share of it: an eighth.
const KEPT: usize = 8;

/// What the rows under way may take, in the bytes that they are stored in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// A row up to this has room in any case.
    share: usize,
    /// For those that are wider, ...
    wide: usize,
    /// ... of which so much belongs to each dependency ...
    own: usize,
    /// ... and so much to all.
    common: usize,
}

/// What the wide rows under way take, by dependency.
#[derive(Debug, Clone, Default)]
pub struct Taken(BTreeMap<String, usize>);

/// How much of it is left for wide rows.
#[derive(Debug, Clone)]
pub struct Left {
    room: Room,
    taken: Taken,
    /// Dependencies of which one did not fit.
    over: Vec<String>,
}

/// How many rows of a pile have room.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Fitting {
    /// So many, from the front.
    pub rows: u32,
    /// How wide the next one is, where it does not.
    pub too_wide: Option<usize>,
}

impl Room {
    /// So many bytes for so many rows under way, to so many dependencies.
    pub fn new(bytes: usize, under_way: usize, dependencies: usize) -> Self {
        let (wide, dependencies) = (bytes / 2, dependencies.max(1));
        let own = if dependencies == 1 { 0 } else { wide / KEPT / dependencies };
        Self { share: wide / under_way.max(1), wide, own, common: wide - own * dependencies }
    }

    /// What a row takes of the room for wide ones.
    pub fn taken_by(self, width: usize) -> usize {
        if width > self.share { width } else { 0 }
    }

    /// What is left of it, beside wide rows that take this.
    pub fn beside(self, taken: Taken) -> Left {
        Left { room: self, taken, over: Vec::new() }
    }

    /// How much of a pile is worth looking at: no more than this has room.
    pub fn most(self) -> usize {
        2 * self.wide
    }
}

impl Taken {
    /// A wide row of this dependency is under way.
    pub fn add(&mut self, dependency: &str, bytes: usize) {
        match self.0.get_mut(dependency) {
            Some(taken) => *taken += bytes,
            None if bytes > 0 => drop(self.0.insert(dependency.to_owned(), bytes)),
            None => {}
        }
    }

    /// It is not any more.
    pub fn give_back(&mut self, dependency: &str, bytes: usize) {
        if let Some(taken) = self.0.get_mut(dependency) {
            *taken = taken.saturating_sub(bytes);
        }
        self.0.retain(|_, taken| *taken > 0);
    }

    /// In all.
    pub fn bytes(&self) -> usize {
        self.0.values().sum()
    }

    fn of(&self, dependency: &str) -> usize {
        self.0.get(dependency).copied().unwrap_or_default()
    }
}

impl Left {
    /// Whether a row so wide has room, to this dependency. Where no wide one is under way one has, however wide it is.
    pub fn fits(&self, dependency: &str, width: usize) -> bool {
        let common: usize = self.taken.0.values().map(|taken| taken.saturating_sub(self.room.own)).sum();
        let own = self.room.own.saturating_sub(self.taken.of(dependency));
        width <= own + self.room.common.saturating_sub(common) || self.taken.0.is_empty()
    }

    fn take(&mut self, dependency: &str, width: usize) -> bool {
        if width <= self.room.share {
            return true;
        }
        let is_over = self.over.iter().any(|over| over == dependency);
        if is_over || !self.fits(dependency, width) {
            if !is_over {
                self.over.push(dependency.to_owned());
            }
            return false;
        }
        self.taken.add(dependency, width);
        true
    }
}

/// The next rows of a pile.
pub struct Pile {
    /// Whom they call first.
    pub dependency: String,
    /// How wide they are.
    pub widths: Vec<usize>,
}

/// How many rows of each pile have room.
pub fn fitting(piles: &[Pile], mut left: Left) -> Vec<Fitting> {
    let mut fitting = vec![Fitting::default(); piles.len()];
    let mut turns: VecDeque<usize> = (0..piles.len()).collect();
    while let Some(pile) = turns.pop_front() {
        let it = &mut fitting[pile];
        let Some(width) = piles[pile].widths.get(it.rows as usize) else { continue };
        if left.take(&piles[pile].dependency, *width) {
            it.rows += 1;
            turns.push_back(pile);
        } else {
            it.too_wide = Some(*width);
        }
    }
    fitting
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A share of 10 bytes, and 100 for wide rows.
    const ROOM: Room = Room { share: 10, wide: 100, own: 0, common: 100 };

    fn of(dependency: &str, bytes: usize) -> Taken {
        let mut taken = Taken::default();
        taken.add(dependency, bytes);
        taken
    }

    fn told(piles: &[&[usize]], taken: usize) -> Vec<(u32, Option<usize>)> {
        let piles: Vec<_> =
            piles.iter().map(|pile| Pile { dependency: "crm".to_owned(), widths: pile.to_vec() }).collect();
        fitting(&piles, ROOM.beside(of("crm", taken))).into_iter().map(|it| (it.rows, it.too_wide)).collect()
    }

    #[test]
    fn a_share_is_half_of_the_room_over_all_rows_under_way() {
        assert_eq!(Room::new(200, 10, 1), ROOM);
        assert_eq!([10, 11].map(|width| ROOM.taken_by(width)), [0, 11]);
    }

    #[test]
    fn wide_rows_of_all_piles_have_their_room_in_turn() {
        assert_eq!(told(&[&[40; 9], &[30; 9]], 0), [(1, Some(40)), (1, Some(30))]);
        assert_eq!(told(&[&[20; 9], &[30; 9]], 0), [(2, Some(20)), (2, Some(30))]);
        assert_eq!(told(&[&[60; 9], &[60; 9]], 0), [(1, Some(60)), (0, Some(60))]);
        assert_eq!(told(&[&[60; 9], &[30; 9]], 50), [(0, Some(60)), (0, Some(30))], "nobody goes ahead of it");
    }

    #[test]
    fn narrow_rows_always_have_room_but_for_those_behind_a_wide_one() {
        assert_eq!(told(&[&[60, 60], &[10; 50], &[1, 60, 1]], 50), [(0, Some(60)), (50, None), (1, Some(60))]);
    }

    #[test]
    fn a_row_that_is_wider_than_all_the_room_goes_alone() {
        assert_eq!(told(&[&[500, 1]], 0), [(2, None)]);
        assert_eq!(told(&[&[500, 1]], 11), [(0, Some(500))]);
        assert_eq!(told(&[&[11], &[500]], 0), [(1, None), (0, Some(500))]);
    }

    #[test]
    fn a_dependency_that_has_all_the_rest_leaves_another_one_its_own() {
        let room = Room::new(3_200, 16, 4);
        assert_eq!((room.own, room.common), (50, 1_400));
        let left = room.beside(of("hangs", 1_450));
        assert!(!left.fits("hangs", 1) && left.fits("crm", 50) && !left.fits("crm", 51));
        let piles = ["hangs", "crm", "hangs"].map(|name| Pile { dependency: name.to_owned(), widths: vec![110; 3] });
        let of_all = |taken| fitting(&piles, room.beside(taken)).iter().map(|it| it.rows).collect::<Vec<_>>();
        assert_eq!(of_all(of("hangs", 1_450)), [0, 0, 0]);
        assert_eq!(of_all(of("hangs", 1_390)), [0, 1, 0], "what is left of the rest makes its own enough");
        let mut taken = of("hangs", 1_450);
        taken.add("crm", 20);
        assert_eq!(taken.bytes(), 1_470);
        assert!(!room.beside(taken.clone()).fits("crm", 31) && room.beside(taken.clone()).fits("crm", 30));
        taken.give_back("hangs", 1_450);
        taken.give_back("crm", 20);
        assert!(taken.0.is_empty() && room.beside(taken).fits("crm", 10_000));
    }
}
