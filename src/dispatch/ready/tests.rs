//! The index by itself: told what is there, and asked what to claim.

use std::collections::HashMap;

use super::*;

const NOW: Timestamp = Timestamp(1_786_000_000_000);
const GRANTED: ReadyClient = ReadyClient { is_paused: false, granted: 1_000_000 };

/// Room by version and step, how often it was asked for, and what was reserved.
#[derive(Default)]
struct Room {
    rows: HashMap<(i64, u32), usize>,
    by_default: usize,
    asked: usize,
}

impl Room {
    fn of(rows: usize) -> Self {
        Self { by_default: rows, ..Self::default() }
    }

    fn without(mut self, version: i64, step: u32) -> Self {
        self.rows.insert((version, step), 0);
        self
    }
}

impl Openings for Room {
    fn take(&mut self, version: i64, step: u32, _: impl Fn(usize) -> usize) -> bool {
        self.asked += 1;
        let left = self.rows.entry((version, step)).or_insert(self.by_default);
        let has_room = *left > 0;
        *left = left.saturating_sub(1);
        has_room
    }
}

fn batch(batch: i64, client: i64, version: i64, rows: u32) -> ReadyBatch {
    ReadyBatch { batch, client, version, next_row: 1, total: rows, waiting: Vec::new() }
}

fn waits(step: u32, prepaid: bool, in_ms: i64, rows: u32) -> Waiting {
    Waiting { step, prepaid, due_at: Timestamp(NOW.0 + in_ms), rows }
}

/// Version 1 calls `a` once, 2 calls `a` three times, 3 calls `b` and then `a`.
fn index() -> Index {
    let mut index = Index::default();
    index.learn(1, &["a".into()]);
    index.learn(2, &["a".into(), "a".into(), "a".into()]);
    index.learn(3, &["b".into(), "a".into()]);
    index
}

fn put(index: &mut Index, batch: &ReadyBatch) {
    index.put(batch);
    index.set_client(batch.client, GRANTED);
}

/// What a plan would bring, told back as if it had been claimed whole.
fn claim(index: &mut Index, limit: usize, room: &mut impl Openings) -> Vec<(i64, u32, Kind, u32)> {
    let planned = index.plan(limit, NOW, room);
    let told = planned.iter().map(|wanted| (wanted.batch, wanted.step, wanted.kind, wanted.rows)).collect();
    for wanted in planned {
        let stands = index.batch(wanted.batch).expect("known");
        let granted = index.client(stands.client).granted;
        let next_row = stands.next_row + if wanted.kind == Kind::New { wanted.rows } else { 0 };
        index.taken(&wanted, Left { granted, next_row, waiting: None });
    }
    told
}

/// Rows by client, of plans for so many rows each, so many times.
fn shares(index: &mut Index, rounds: usize, rows: usize) -> HashMap<i64, u32> {
    let mut shares = HashMap::new();
    for _ in 0..rounds {
        for (batch, _, _, rows) in claim(index, rows, &mut Room::of(usize::MAX)) {
            let client = index.batch(batch).expect("known").client;
            *shares.entry(client).or_default() += rows;
        }
    }
    shares
}

#[test]
fn clients_share_a_dependency_equally_however_many_they_are() {
    for clients in [2_i64, 4, 300] {
        let mut index = index();
        for client in 1..=clients {
            // The first has a hundred batches, which count for no more than one.
            for of_client in 0..if client == 1 { 100 } else { 1 } {
                put(&mut index, &batch(client * 1_000 + of_client, client, 1, 100_000));
            }
        }
        for rows in [1, 7, 100] {
            let rounds = usize::try_from(clients).expect("few") * 10 / rows.min(10);
            let shares = shares(&mut index, rounds, rows);
            let (least, most) = (shares.values().min().expect("some"), shares.values().max().expect("some"));
            assert!(shares.len() == clients as usize && most - least <= 1, "{clients} by {rows}: {least} to {most}");
        }
    }
}

#[test]
fn a_row_counts_for_as_many_calls_as_its_way_makes() {
    let mut index = index();
    put(&mut index, &batch(1, 1, 1, 100_000));
    put(&mut index, &batch(2, 2, 2, 100_000));
    let shares = shares(&mut index, 40, 10);
    assert_eq!((shares[&1], shares[&2]), (300, 100), "one call a row, and three");
}

#[test]
fn nobody_saves_up_turns_while_nothing_of_theirs_can_start() {
    let mut index = index();
    put(&mut index, &batch(1, 1, 1, 100_000));
    put(&mut index, &batch(2, 2, 2, 100_000));
    let mut shut = Room::of(usize::MAX).without(2, 0);
    assert_eq!(claim(&mut index, 1_000, &mut shut), [(1, 0, Kind::New, 1_000)]);
    let open = claim(&mut index, 40, &mut Room::of(usize::MAX));
    assert_eq!(open, [(2, 0, Kind::New, 10), (1, 0, Kind::New, 30)], "from now on equally, and nothing is made up for");
    // Nor does whoever comes anew.
    put(&mut index, &batch(3, 3, 1, 100_000));
    let with_another = claim(&mut index, 70, &mut Room::of(usize::MAX));
    let of = |batch| with_another.iter().find(|(of, ..)| *of == batch).map_or(0, |(_, _, _, rows)| *rows);
    assert!((29..=31).contains(&of(1)) && (29..=31).contains(&of(3)), "{with_another:?}");
}

#[test]
fn a_dependency_without_room_is_asked_once_and_holds_up_nobody() {
    let mut index = index();
    for client in 1..=300 {
        put(&mut index, &batch(client, client, 3, 1_000));
    }
    // The client's oldest batch cannot go on; the next one can.
    put(&mut index, &batch(1_001, 7, 1, 1_000));
    let mut room = Room::of(50).without(3, 0);
    assert_eq!(claim(&mut index, 100, &mut room), [(1_001, 0, Kind::New, 50)]);
    assert!(room.asked < 60, "asked {} times", room.asked);
}

#[test]
fn dependencies_take_turns_where_few_rows_can_be_worked() {
    let mut index = index();
    put(&mut index, &batch(1, 1, 1, 1_000));
    put(&mut index, &batch(2, 1, 3, 1_000));
    let planned = claim(&mut index, 10, &mut Room::of(usize::MAX));
    assert_eq!(planned.iter().map(|(.., rows)| rows).collect::<Vec<_>>(), [&5, &5], "{planned:?}");
    let one_each = (0..4).map(|_| claim(&mut index, 1, &mut Room::of(usize::MAX))[0].0);
    let mut one_each: Vec<_> = one_each.collect();
    one_each.sort_unstable();
    assert_eq!(one_each, [1, 1, 2, 2]);
}

#[test]
fn the_oldest_batch_goes_first_and_of_it_what_got_furthest() {
    let mut index = index();
    let mut older = batch(1, 1, 2, 3);
    older.waiting = vec![waits(1, false, 0, 2), waits(2, true, -5, 1), waits(2, false, 0, 1)];
    put(&mut index, &older);
    put(&mut index, &batch(2, 1, 2, 100));
    let planned = claim(&mut index, 8, &mut Room::of(usize::MAX));
    let expected = [
        (1, 2, Kind::Prepaid, 1),
        (1, 2, Kind::Waiting, 1),
        (1, 1, Kind::Waiting, 2),
        (1, 0, Kind::New, 3),
        (2, 0, Kind::New, 1),
    ];
    assert_eq!(planned, expected);
}

#[test]
fn what_waits_has_a_turn_when_it_is_due_and_costs_nothing_before() {
    let mut index = index();
    for key in 1..=1_000 {
        let mut waiting = batch(key, 1, 1, 1);
        waiting.next_row = 2;
        waiting.waiting = vec![waits(0, false, 1_000 + key, 1)];
        put(&mut index, &waiting);
    }
    let mut room = Room::of(usize::MAX);
    assert!(index.plan(100, NOW, &mut room).is_empty());
    assert_eq!((room.asked, index.next_due()), (0, Some(Timestamp(NOW.0 + 1_001))));
    // One is heard of that is due before.
    assert!(index.note(500, waits(0, false, 10, 1)));
    assert!(!index.note(5_000, waits(0, false, 10, 1)), "of a batch that is not known");
    let planned = index.plan(100, Timestamp(NOW.0 + 1_003), &mut room);
    let batches: Vec<_> = planned.iter().map(|wanted| (wanted.batch, wanted.rows)).collect();
    assert_eq!(batches, [(1, 1), (2, 1), (3, 1), (500, 2)]);
    // Only one was due there, and of another more are left.
    let left = |waiting| Left { granted: 9, next_row: 2, waiting };
    index.taken(&planned[3], left(Some((Timestamp(NOW.0 + 1_500), 1))));
    index.taken(&planned[0], left(Some((Timestamp(NOW.0 + 1_002), 40))));
    index.taken(&planned[1], left(None));
    let again = index.plan(100, Timestamp(NOW.0 + 1_003), &mut room);
    assert_eq!(
        again.iter().map(|wanted| (wanted.batch, wanted.rows)).collect::<Vec<_>>(),
        [(1, 9)],
        "as many as granted"
    );
}

#[test]
fn only_what_is_prepaid_goes_on_without_a_grant() {
    let mut index = index();
    let mut put_down = batch(1, 1, 2, 10);
    put_down.waiting = vec![waits(1, true, 0, 2), waits(1, false, 0, 2)];
    put(&mut index, &put_down);
    index.set_client(1, ReadyClient { is_paused: false, granted: 0 });
    assert_eq!(claim(&mut index, 10, &mut Room::of(usize::MAX)), [(1, 1, Kind::Prepaid, 2)]);
    index.set_client(1, ReadyClient { is_paused: false, granted: 3 });
    assert_eq!(claim(&mut index, 10, &mut Room::of(9)), [(1, 1, Kind::Waiting, 2), (1, 0, Kind::New, 1)]);
}

#[test]
fn what_stands_still_has_no_turn() {
    let mut index = index();
    put(&mut index, &batch(1, 1, 1, 10));
    put(&mut index, &batch(2, 2, 1, 10));
    let all = |index: &mut Index| {
        let mut room = Room::of(usize::MAX);
        let planned = index.plan(100, NOW, &mut room);
        // As if the claim had found nothing.
        for wanted in &planned {
            index.taken(wanted, Left { granted: GRANTED.granted, next_row: 1, waiting: None });
        }
        (planned.iter().map(|wanted| wanted.batch).collect::<Vec<_>>(), room.asked)
    };
    assert_eq!(all(&mut index), (vec![1, 2], 20));
    index.set_client(1, ReadyClient { is_paused: true, ..GRANTED });
    assert_eq!(all(&mut index), (vec![2], 10));
    index.set_paused(true);
    assert_eq!(all(&mut index), (vec![], 0));
    index.set_paused(false);
    index.remove(2);
    index.set_client(1, GRANTED);
    assert_eq!(all(&mut index), (vec![1], 10));
}

#[test]
fn what_is_missed_is_seen_and_what_is_only_thought_to_be_there_is_no_matter() {
    let mut index = index();
    let mut stands = batch(1, 1, 2, 10);
    stands.waiting = vec![waits(1, false, 50, 1)];
    put(&mut index, &stands);
    assert!(!index.misses(&stands));
    let (mut fewer, mut later) = (stands.clone(), stands.clone());
    fewer.next_row = 5;
    later.waiting[0].due_at = Timestamp(NOW.0 + 60);
    assert!(!index.misses(&fewer) && !index.misses(&later));
    let (mut earlier, mut more) = (stands.clone(), stands.clone());
    earlier.waiting[0].due_at = NOW;
    more.waiting.push(waits(1, true, 50, 1));
    assert!(index.misses(&earlier) && index.misses(&more));
    assert!(index.misses(&ReadyBatch { version: 1, ..stands.clone() }));
    index.remove(1);
    assert!(index.misses(&stands));
}

/// What lies before the step behind the first one of version 3.
fn lying_behind(index: &mut Index) -> usize {
    struct Asks(Option<usize>);
    impl Openings for Asks {
        fn take(&mut self, _: i64, step: u32, lying: impl Fn(usize) -> usize) -> bool {
            self.0 = (step == 0).then(|| lying(1)).or(self.0);
            false
        }
    }
    let mut asks = Asks(None);
    assert!(index.plan(1, NOW, &mut asks).is_empty());
    asks.0.expect("it was asked for a new row")
}

#[test]
fn it_knows_how_many_rows_lie_before_a_later_step_due_or_not() {
    let mut index = index();
    put(&mut index, &batch(1, 1, 3, 1_000));
    assert_eq!(lying_behind(&mut index), 0);
    // Put down one by one, for different times.
    (0..5).for_each(|row| assert!(index.note(1, waits(1, true, row * 1_000, 1))));
    put(&mut index, &ReadyBatch { waiting: vec![waits(1, false, -5, 7)], ..batch(2, 2, 3, 0) });
    assert_eq!(lying_behind(&mut index), 12);

    // Two are claimed, of which three were due; then what is left, and then their batch ends.
    let wanted = Wanted { batch: 1, version: 3, step: 1, kind: Kind::Prepaid, rows: 2, has_key: false };
    let left = |waiting| Left { granted: 1_000_000, next_row: 1, waiting };
    index.taken(&wanted, left(Some((NOW, 1))));
    assert_eq!(lying_behind(&mut index), 10);
    index.taken(&Wanted { rows: 2, ..wanted }, left(None));
    assert_eq!(lying_behind(&mut index), 7, "where no pile is left nothing lies");
    index.remove(2);
    assert_eq!(lying_behind(&mut index), 0);
}

/// Rows of one client are refused at the first of four calls, those of the other make all four.
#[test]
fn a_client_whose_rows_end_early_has_its_part_of_the_calls() {
    let mut index = index();
    index.learn(4, &["a".into(), "a".into(), "b".into(), "a".into()]);
    for client in [1, 2] {
        put(&mut index, &batch(client, client, 4, 100_000));
    }
    let mut calls = HashMap::<i64, u32>::new();
    for _ in 0..400 {
        for (client, _, _, rows) in claim(&mut index, 5, &mut Room::of(usize::MAX)) {
            let made = if client == 1 { 1 } else { 3 };
            *calls.entry(client).or_default() += made * rows;
            if client == 1 {
                index.refund(1, 4, 1, rows);
            }
        }
    }
    let (one, other) = (calls[&1], calls[&2]);
    assert!(one.abs_diff(other) <= (one + other) / 20, "{one} and {other} calls of `a`");
}

#[test]
fn what_comes_back_is_not_saved_up() {
    let mut index = index();
    for client in [1, 2] {
        put(&mut index, &batch(client, client, 2, 100_000));
    }
    claim(&mut index, 10, &mut Room::of(usize::MAX));
    index.refund(1, 2, 0, 1_000);
    // It stands still for a while, and the other goes on.
    index.set_client(1, ReadyClient { is_paused: true, ..GRANTED });
    claim(&mut index, 20, &mut Room::of(usize::MAX));
    index.set_client(1, GRANTED);
    let shares = shares(&mut index, 4, 10);
    assert!(shares[&2] >= 18, "{shares:?}");
}
