//! What goes into one transaction of the settler or the noter: so many rows, and so many bytes of them, that no other write
//! waits long behind it.

/// The most rows of one transaction.
const ROWS: usize = 256;
/// ... and bytes of what is written of them, behind which it takes no other row: hundreds of rows of the usual width, some
/// dozens of those whose answers saved as much as may be.
const BYTES: usize = 1 << 20;

/// One transaction's.
pub(super) struct Group<T> {
    rows: Vec<T>,
    bytes: usize,
}

impl<T> Group<T> {
    /// With what must go into it in any case.
    pub(super) fn of(first: Option<T>, bytes_of: impl Fn(&T) -> usize) -> Self {
        let bytes = first.as_ref().map_or(0, bytes_of);
        Self { rows: first.into_iter().collect(), bytes }
    }

    /// Takes of these as many as have room. Those that have none are not asked for.
    pub(super) fn fill(mut self, mut from: impl Iterator<Item = T>, bytes_of: impl Fn(&T) -> usize) -> Self {
        while self.rows.len() < ROWS && self.bytes < BYTES {
            let Some(next) = from.next() else { break };
            self.bytes += bytes_of(&next);
            self.rows.push(next);
        }
        self
    }

    pub(super) fn into_rows(self) -> Vec<T> {
        self.rows
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transaction_takes_so_many_rows_and_bytes_and_leaves_the_rest_where_it_is() {
        let taken = |first: Option<usize>, width: usize| {
            let mut waiting = std::iter::repeat_n(width, 1_000);
            let group = Group::of(first, |width| *width).fill(waiting.by_ref(), |width| *width).into_rows();
            assert_eq!(group.len() + waiting.count(), 1_000 + usize::from(first.is_some()), "none is lost");
            group.len()
        };
        assert_eq!(taken(None, 300), ROWS);
        assert_eq!(taken(None, 64 << 10), 16);
        assert_eq!(taken(None, 5 << 20), 1);
        assert_eq!(taken(Some(5 << 20), 1), 1, "the first one goes alone");
    }
}
