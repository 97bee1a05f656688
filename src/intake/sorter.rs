//! Sorts any number of small entries in bounded memory: runs of a fixed size, sorted, spilled to a file without a
//! name, and merged. Few entries never touch the disk. Knows nothing of what the entries mean.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, binary_heap::PeekMut},
    fs::File,
    io,
    ops::Range,
    os::unix::fs::FileExt,
    path::PathBuf,
};

/// What is sorted: compared number by number.
pub(super) type Entry = [u64; 3];

/// So many entries are sorted in memory (768 KiB), and about as many are in memory while runs are merged.
pub(super) const RUN_ENTRIES: usize = 1 << 15;
/// A run's share of the memory while merging is not less than this, for reads to be worth their while.
const FEWEST_BUFFERED: usize = 32;
const ENTRY_BYTES: usize = size_of::<Entry>();

/// Takes entries in any order.
pub(super) struct Sorter {
    run: Vec<Entry>,
    run_entries: usize,
    spool_dir: PathBuf,
    spill: Option<Spill>,
}

/// The runs that did not fit into memory, one behind the other. Its file has no name, so nothing is left of it
/// however the process ends.
struct Spill {
    file: File,
    bytes: u64,
    runs: Vec<Range<u64>>,
}

impl Sorter {
    pub(super) fn new(spool_dir: PathBuf, run_entries: usize) -> Self {
        Self { run: Vec::new(), run_entries, spool_dir, spill: None }
    }

    pub(super) fn push(&mut self, entry: Entry) -> io::Result<()> {
        if self.run.len() == self.run_entries {
            self.spill_run()?;
        }
        self.run.push(entry);
        Ok(())
    }

    fn spill_run(&mut self) -> io::Result<()> {
        self.run.sort_unstable();
        let spill = match &mut self.spill {
            Some(spill) => spill,
            None => {
                let file = tempfile::tempfile_in(&self.spool_dir)?;
                self.spill.insert(Spill { file, bytes: 0, runs: Vec::new() })
            }
        };
        let bytes: Vec<u8> = self.run.iter().flatten().flat_map(|number| number.to_le_bytes()).collect();
        spill.file.write_all_at(&bytes, spill.bytes)?;
        let end = spill.bytes + bytes.len() as u64;
        spill.runs.push(spill.bytes..end);
        spill.bytes = end;
        self.run.clear();
        Ok(())
    }

    /// Everything that was pushed, in order.
    pub(super) fn finish(mut self) -> io::Result<Sorted> {
        self.run.sort_unstable();
        let mut runs = vec![Run { entries: self.run.into_iter(), spilled: 0..0 }];
        let (file, spilled) = self.spill.map(|spill| (spill.file, spill.runs)).unzip();
        let spilled = spilled.unwrap_or_default();
        let buffered = (self.run_entries / spilled.len().max(1)).max(FEWEST_BUFFERED);
        runs.extend(spilled.into_iter().map(|spilled| Run { entries: Vec::new().into_iter(), spilled }));
        let mut sorted = Sorted { file, buffered, runs, heads: BinaryHeap::new() };
        for index in 0..sorted.runs.len() {
            if let Some(entry) = sorted.next_of(index)? {
                sorted.heads.push(Reverse((entry, index)));
            }
        }
        Ok(sorted)
    }
}

/// Gives entries in order.
pub(super) struct Sorted {
    file: Option<File>,
    buffered: usize,
    runs: Vec<Run>,
    /// The next entry of each run, the least on top.
    heads: BinaryHeap<Reverse<(Entry, usize)>>,
}

struct Run {
    /// What is in memory of it.
    entries: std::vec::IntoIter<Entry>,
    /// Where the rest of it lies in the file.
    spilled: Range<u64>,
}

impl Sorted {
    pub(super) fn next(&mut self) -> io::Result<Option<Entry>> {
        let Some(&Reverse((least, index))) = self.heads.peek() else { return Ok(None) };
        let following = self.next_of(index)?;
        if let Some(mut head) = self.heads.peek_mut() {
            match following {
                Some(entry) => *head = Reverse((entry, index)),
                None => drop(PeekMut::pop(head)),
            }
        }
        Ok(Some(least))
    }

    fn next_of(&mut self, index: usize) -> io::Result<Option<Entry>> {
        let run = &mut self.runs[index];
        if let (0, false, Some(file)) = (run.entries.len(), run.spilled.is_empty(), &self.file) {
            let left = run.spilled.end - run.spilled.start;
            let mut bytes = vec![0; (self.buffered * ENTRY_BYTES).min(usize::try_from(left).unwrap_or(usize::MAX))];
            file.read_exact_at(&mut bytes, run.spilled.start)?;
            run.spilled.start += bytes.len() as u64;
            run.entries = bytes.as_chunks().0.iter().map(entry).collect::<Vec<_>>().into_iter();
        }
        Ok(run.entries.next())
    }
}

fn entry(bytes: &[u8; ENTRY_BYTES]) -> Entry {
    let mut numbers = bytes.as_chunks().0.iter().map(|bytes| u64::from_le_bytes(*bytes));
    std::array::from_fn(|_| numbers.next().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sorts_in_memory_and_across_runs_alike() {
        let folder = tempfile::tempdir().unwrap();
        // 7,919 is prime, so every number below it comes once, and in no order that a sorter likes.
        let entries: Vec<Entry> = (0..7_919).map(|n: u64| [n * 6_101 % 7_919, n % 3, n]).collect();
        let mut expected = entries.clone();
        expected.sort_unstable();
        for run_entries in [1_usize, 100, 7_919, RUN_ENTRIES] {
            let mut sorter = Sorter::new(folder.path().to_owned(), run_entries);
            entries.iter().for_each(|&entry| sorter.push(entry).unwrap());
            assert_eq!(sorter.spill.is_some(), run_entries < entries.len());
            let mut sorted = sorter.finish().unwrap();
            let found: Vec<_> = std::iter::from_fn(|| sorted.next().unwrap()).collect();
            assert_eq!(found, expected, "in runs of {run_entries}");
        }
    }

    #[test]
    fn a_spool_folder_that_is_not_there_matters_only_to_many_entries() {
        let mut sorter = Sorter::new("/nowhere/at/all".into(), 2);
        sorter.push([1, 0, 0]).unwrap();
        sorter.push([2, 0, 0]).unwrap();
        assert!(sorter.push([3, 0, 0]).is_err());
    }
}
