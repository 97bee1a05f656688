//! What strangers' bytes go into first, as functions of bytes alone: for a fuzzer (`tests/fuzzing`), and for a test that
//! turns and bends the same corpora without one. None may panic, whatever the bytes are, and each holds what it promises.
//!
//! Only there with the feature `fuzzing`, and in tests.

use std::{
    io::{Read, Write, sink},
    path::Path,
    sync::LazyLock,
};

use bytes::Bytes;

use crate::{
    backup::manifest::Manifest,
    config::Config,
    crypto::{DataKey, OpeningReader, Place, Purpose, SealingWriter},
    downstream::understood,
    http::fuzz,
    intake::{Options, Rows, Rules, pass},
    model::{BatchId, Workflow, safe_cell, workflow::ExtraColumns, workflow::OnInvalidRow},
};

/// A function of bytes alone.
pub type Target = fn(&[u8]);

/// Every target, by its name.
pub const TARGETS: [(&str, Target); 7] = [
    ("answer", answer),
    ("cell", cell),
    ("csv", csv),
    ("head", head),
    ("manifest", manifest),
    ("multipart", multipart),
    ("stream", stream),
];

/// The built-in workflow as it is, with invalid rows skipped, and with other columns kept.
static RULES: LazyLock<Vec<Rules>> = LazyLock::new(|| {
    const TOML: &str = "[dependencies.addresses]\nbase_url = \"http://a.example\"\nrate_per_second = 1\n\
                        [dependencies.invites]\nbase_url = \"http://a.example\"\nrate_per_second = 1";
    let config = Config::from_toml(TOML, &|_| None).expect("a configuration");
    let plain = Workflow { max_bytes: 4 << 20, ..config.workflows["invite"].clone() };
    let skips = Workflow { on_invalid_row: OnInvalidRow::Skip, ..plain.clone() };
    let keeps = Workflow { extra_columns: ExtraColumns::Keep, ..skips.clone() };
    [plain, skips, keeps].iter().map(|workflow| Rules::compile(workflow).expect("compiles")).collect()
});

/// The answer of an API: the first byte says in how large pieces it comes. It is understood as the same when it comes whole.
pub fn answer(data: &[u8]) {
    let Some((first, answer)) = data.split_first() else { return };
    let whole = understood([answer]);
    assert_eq!(understood(answer.chunks(usize::from(*first) + 1)), whole);
}

/// A cell, and the way to a spreadsheet and back.
pub fn cell(data: &[u8]) {
    let cell = String::from_utf8_lossy(data);
    assert_eq!(safe_cell::restored(&safe_cell::protected(&cell)), cell);
    let _ = safe_cell::restored(&cell);
}

/// An upload: the first byte says whether it comes as gzip. What is accepted has as many records as were counted.
pub fn csv(data: &[u8]) {
    let Some((first, file)) = data.split_first() else { return };
    let gzip = first % 2 == 1;
    for rules in &*RULES {
        let mut stored = Vec::new();
        let options = Options { gzip, spool_dir: Path::new("/tmp") };
        let Ok(accepted) = pass::run(file, rules, options, &mut stored, &mut |_| Ok(())) else { continue };
        let mut rows = Rows::open(stored.as_slice(), &accepted.header).expect("what was accepted is read again");
        let mut records = 0;
        while let Some(row) = rows.read().expect("what was accepted is read again") {
            assert_eq!(row.cells().count(), accepted.header.kept().count());
            records += 1;
        }
        assert_eq!(records, accepted.rows + accepted.skipped);
        assert_eq!(stored.len() as u64, accepted.bytes);
    }
}

/// What an upload says of itself in front of its body, as `name: value` in lines.
pub fn head(data: &[u8]) {
    fuzz::head(data);
}

/// A form with the boundary `x`, whose first byte says in how large pieces it comes. No more content than there are bytes.
pub fn multipart(data: &[u8]) {
    let Some((first, form)) = data.split_first() else { return };
    let pieces = form.chunks(usize::from(*first) + 1).map(Bytes::copy_from_slice).collect();
    assert!(fuzz::content_of_form(pieces, "x") <= form.len());
}

/// What a backup says of itself. What is understood is written and understood again, as the same.
pub fn manifest(data: &[u8]) {
    let Ok(manifest) = Manifest::parse(data) else { return };
    let _ = (manifest.bytes(), manifest.files());
    let text = serde_json::to_vec(&manifest).expect("JSON");
    let again = Manifest::parse(&text).expect("our own");
    assert_eq!(serde_json::to_vec(&again).expect("JSON"), text);
}

/// A sealed stream: the bytes as they are, which open as nothing; and sealed as a stream of which one byte is then another,
/// which does not open to its end.
pub fn stream(data: &[u8]) {
    static KEY: LazyLock<DataKey> = LazyLock::new(DataKey::generate);
    static PLACE: LazyLock<Place> = LazyLock::new(|| Place::batch(Purpose::File, BatchId::random()));
    let open = |sealed: &[u8]| {
        let mut opened = Vec::new();
        let mut reader = OpeningReader::new(sealed, &KEY, *PLACE).ok()?;
        reader.read_to_end(&mut opened).ok().map(|_| opened)
    };
    assert!(open(data).is_none(), "nobody else has the key");
    let Some((&[at_high, at_low, turn], plain)) = data.split_first_chunk() else { return };
    let mut writer = SealingWriter::new(Vec::new(), &KEY, *PLACE).expect("in memory");
    writer.write_all(plain).expect("in memory");
    let mut sealed = writer.finish().expect("in memory");
    assert_eq!(open(&sealed).as_deref(), Some(plain));
    let at = usize::from(u16::from_be_bytes([at_high, at_low])) % sealed.len();
    sealed[at] ^= turn;
    assert_eq!(open(&sealed).is_some(), turn == 0, "byte {at} was turned by {turn}");
    let _ = sink().write(&sealed);
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        panic::{AssertUnwindSafe, catch_unwind},
        time::{Duration, Instant},
    };

    use rand::{RngExt, SeedableRng, rngs::StdRng};

    use super::*;

    /// All targets together get so long, where `DRIPFEED_FUZZ_SECONDS` says nothing else.
    const SECONDS: f64 = 3.0;
    const LONGEST: usize = 1 << 17;

    fn corpus(name: &str) -> Vec<Vec<u8>> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzzing/corpus").join(name);
        let mut paths: Vec<_> =
            fs::read_dir(folder).expect("a corpus").map(|entry| entry.expect("a file").path()).collect();
        paths.sort();
        paths.iter().map(|path| fs::read(path).expect("a file")).collect()
    }

    /// One of the corpus, cut, doubled, turned, or grafted onto another, a few times over.
    fn bent(corpus: &[Vec<u8>], random: &mut StdRng) -> Vec<u8> {
        let mut data = corpus[random.random_range(0..corpus.len())].clone();
        for _ in 0..random.random_range(1..6) {
            let at = random.random_range(0..=data.len());
            let end = random.random_range(at..=data.len());
            match random.random_range(0..7) {
                0 => drop(data.drain(at..end)),
                1 => data.insert(at, random.random()),
                2 => data.truncate(at),
                3 if at < data.len() => data[at] ^= 1 << random.random_range(0..8),
                4 if data.len() < LONGEST => {
                    let piece = data[at..end].to_vec();
                    data.splice(at..at, piece);
                }
                5 => {
                    let other = &corpus[random.random_range(0..corpus.len())];
                    let from = random.random_range(0..=other.len());
                    data.splice(at..end, other[from..].iter().copied());
                }
                _ => {
                    let signs = b",;\t\"'\r\n=-:{}[]\0\xff\xef\xbb\xbf";
                    data.insert(at, signs[random.random_range(0..signs.len())]);
                }
            }
        }
        data
    }

    #[test]
    fn no_bytes_break_what_strangers_bytes_go_into_first() {
        let seconds = std::env::var("DRIPFEED_FUZZ_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(SECONDS);
        let each = Duration::from_secs_f64(seconds / TARGETS.len() as f64);
        let seed = rand::random();
        let mut random = StdRng::seed_from_u64(seed);
        for (name, target) in TARGETS {
            let corpus = corpus(name);
            assert!(!corpus.is_empty(), "{name}");
            let hold = |data: &[u8]| {
                if catch_unwind(AssertUnwindSafe(|| target(data))).is_err() {
                    let kept = std::env::temp_dir().join(format!("dripfeed-{name}-{seed}"));
                    fs::write(&kept, data).expect("written");
                    panic!("{name} broke: put {} into tests/fuzzing/corpus/{name}", kept.display());
                }
            };
            corpus.iter().for_each(|data| hold(data));
            let (begun, mut tries) = (Instant::now(), 0_u64);
            while begun.elapsed() < each {
                hold(&bent(&corpus, &mut random));
                tries += 1;
            }
            println!("{name}: {tries} tries in {:.1} s, seed {seed}", begun.elapsed().as_secs_f64());
        }
    }
}
