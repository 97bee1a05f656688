//! A CSV of believable people for the demo, made as it is read: no file, no memory, whatever the number of rows.

use std::{
    fmt::Write as _,
    io::{self, Read},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use rand::{RngExt, SeedableRng, rngs::StdRng, seq::IndexedRandom};

const FIRST_NAMES: [&str; 24] = [
    "Amelia", "Noah", "Isla", "Oliver", "Ava", "George", "Freya", "Arthur", "Zoë", "Muhammad", "Lily", "Leo", "Siân",
    "Harry", "Grace", "Oscar", "Niamh", "Jack", "Priya", "Theo", "Chloé", "Callum", "Ngozi", "Björn",
];
const LAST_NAMES: [&str; 24] = [
    "Smith", "Jones", "Taylor", "Brown", "Williams", "O'Brien", "Davies", "Evans", "Patel", "Wilson", "Khan",
    "Roberts", "Walker", "Wright", "Thompson", "Hughes", "Okafor", "Green", "Hall", "Lewis", "Müller", "Clarke",
    "McDonald", "Nowak",
];
const AREAS: [&str; 16] = ["AB", "BS", "CF", "DH", "EH", "G", "L", "LS", "M", "NE", "NG", "OX", "SW", "W", "YO", "BT"];
const INWARD: [&str; 8] = ["1AA", "2BD", "3EF", "4GH", "5JL", "6NP", "7QR", "8TU"];

/// Rows between two whose postcode and house number are nowhere to be found.
const WITHOUT_ADDRESS: u32 = 97;
/// Rows between two whose address the invite API does not take.
const REJECTED: u32 = 251;

const HEADER: &str = "email,first_name,last_name,phone,postcode,house_number\n";

/// The file, as a reader. Counts the rows it has given.
pub struct People {
    rows: u32,
    given: Arc<AtomicU32>,
    random: StdRng,
    waiting: String,
    read: usize,
}

impl People {
    /// `rows` people, the same ones each time.
    pub fn new(rows: u32) -> Self {
        let given = Arc::new(AtomicU32::new(0));
        Self { rows, given, random: StdRng::seed_from_u64(7), waiting: HEADER.to_owned(), read: 0 }
    }

    /// Goes up as rows are read.
    pub fn given(&self) -> Arc<AtomicU32> {
        self.given.clone()
    }

    fn write_row(&mut self, number: u32) {
        let random = &mut self.random;
        let pick = |from: &[&'static str], random: &mut StdRng| from.choose(random).copied().unwrap_or_default();
        let (first, last) = (pick(&FIRST_NAMES, random), pick(&LAST_NAMES, random));
        let domain = if number.is_multiple_of(REJECTED) { "rejected.example" } else { "mail.example" };
        let phone: u32 = random.random_range(100_000..1_000_000);
        let postcode = (pick(&AREAS, random), random.random_range(1..=20), pick(&INWARD, random));
        let house = if number.is_multiple_of(WITHOUT_ADDRESS) { 0 } else { random.random_range(1..=240) };
        // Writing to a string cannot fail.
        let _ = writeln!(
            self.waiting,
            "person{number}@{domain},{first},{last},07700 {phone},{}{} {},{house}",
            postcode.0, postcode.1, postcode.2
        );
    }
}

impl Read for People {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.read == self.waiting.len() {
            self.waiting.clear();
            self.read = 0;
            let number = self.given.load(Ordering::Relaxed) + 1;
            if number > self.rows {
                return Ok(0);
            }
            self.write_row(number);
            self.given.store(number, Ordering::Relaxed);
        }
        let rest = &self.waiting.as_bytes()[self.read..];
        let length = rest.len().min(buffer.len());
        buffer[..length].copy_from_slice(&rest[..length]);
        self.read += length;
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gives_as_many_rows_as_asked_for() {
        let mut text = String::new();
        let mut people = People::new(300);
        people.read_to_string(&mut text).expect("it never fails");
        let mut csv = csv::Reader::from_reader(text.as_bytes());
        let records: Vec<_> = csv.records().collect::<Result<_, _>>().expect("well-formed");
        assert_eq!(records.len(), 300);
        assert_eq!(records.iter().filter(|record| &record[5] == "0").count(), 3);
        assert_eq!(records.iter().filter(|record| record[0].ends_with("@rejected.example")).count(), 1);
        assert_eq!(people.given().load(Ordering::Relaxed), 300);
    }
}
