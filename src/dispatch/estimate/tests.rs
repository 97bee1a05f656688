//! What an estimate says, with everything that could bound a batch.

use super::*;
use crate::downstream::GateReason;

const NOW: Timestamp = Timestamp(1_786_000_000_000);

fn batch(batch: i64, client: i64, pending: u64) -> Queued {
    let (limit, granted) = (1_000_000, 1_000_000);
    Queued {
        batch,
        client,
        workflow_version: 1,
        pending,
        processing: 0,
        unextracted: 0,
        is_paused: false,
        limit,
        granted,
    }
}

fn scene(queue: &[Queued]) -> Scene {
    let open = |per_second| Pace::unseen(per_second, 1_000);
    let steps = ["addresses", "addresses", "invites"].map(str::to_owned).to_vec();
    Scene {
        now: NOW,
        every: Duration::from_secs(60),
        last_run: Some(NOW.before(Duration::from_secs(20))),
        dependencies: BTreeMap::from([("addresses".to_owned(), open(50.0)), ("invites".to_owned(), open(20.0))]),
        steps: BTreeMap::from([(1, steps)]),
        under_way: 1_000,
        crowd: Crowd::of(queue.to_vec()),
    }
}

fn of(scene: &Scene, batch: &Queued) -> (u64, String) {
    let estimate = scene.estimate(batch, &Standing::default()).expect("an estimate");
    assert_eq!(estimate.finished_at, NOW.after(Duration::from_secs(estimate.seconds)));
    (estimate.seconds, estimate.reason)
}

#[test]
fn the_slowest_steps_dependency_bounds_a_batch_with_grants_enough() {
    let mine = batch(1, 1, 1_000);
    let mut scene = scene(std::slice::from_ref(&mine));
    assert_eq!(of(&scene, &mine), (50, "invites allows 20 calls a second".to_owned()));
    // Two steps share the addresses: at 30 a second only 15 rows are through.
    scene.dependencies.insert("addresses".to_owned(), Pace::unseen(30.0, 1_000));
    assert_eq!(of(&scene, &mine), (67, "addresses allows 30 calls a second".to_owned()));
}

#[test]
fn a_clients_grants_bound_it_run_by_run() {
    let mine = Queued { limit: 500, granted: 100, ..batch(1, 1, 1_200) };
    let scene = scene(std::slice::from_ref(&mine));
    // 100 now, 500 in 40 s, 500 in 100 s, and the last 100 in 160 s, which take 5 s more.
    assert_eq!(of(&scene, &mine), (165, "client limit: 500 rows a run, a run every 60 s".to_owned()));
    let once = Queued { pending: 150, ..mine.clone() };
    let reason = "the next dispatch run has to grant its rows, one comes every 60 s";
    assert_eq!(of(&scene, &once), (43, reason.to_owned()));
    let mut slow = scene.clone();
    slow.dependencies.insert("invites".to_owned(), Pace::unseen(10.0, 1_000));
    let more = Queued { pending: 600, ..mine.clone() };
    assert_eq!(of(&slow, &more), (90, "invites allows 10 calls a second".to_owned()), "the calls take longer");
    let nothing = Queued { limit: 0, granted: 0, ..mine.clone() };
    assert_eq!(scene.estimate(&nothing, &Standing::default()), None);
    let late = Scene { last_run: Some(NOW.before(Duration::from_secs(600))), ..scene.clone() };
    assert_eq!(of(&late, &mine).0, 125, "a run that is due comes now");
    let never = Scene { last_run: None, ..scene };
    assert_eq!(of(&never, &mine).0, 185);
}

#[test]
fn older_batches_of_the_client_go_first_and_younger_ones_do_not() {
    let (elder, mine, younger) = (batch(1, 1, 2_000), batch(2, 1, 1_000), batch(3, 1, 9_000));
    let full = scene(&[elder.clone(), mine.clone(), younger.clone()]);
    let reason = "invites allows 20 calls a second; 2000 rows of older batches go first";
    assert_eq!(of(&full, &mine), (150, reason.to_owned()));
    assert_eq!(of(&full, &elder).0, 100);
    let gone = Queued { workflow_version: 2, ..elder.clone() };
    assert_eq!(of(&scene(&[gone.clone(), mine.clone()]), &mine).0, 50, "nobody works what nobody knows");
    assert_eq!(full.estimate(&gone, &Standing::default()), None);
    let paused = Queued { is_paused: true, ..elder };
    assert_eq!(of(&scene(&[paused.clone(), mine.clone()]), &mine).0, 50);
    assert_eq!(full.estimate(&paused, &Standing::default()), None);
}

#[test]
fn other_clients_have_their_turn_as_far_as_they_are_granted_rows() {
    let mine = batch(9, 1, 1_000);
    let with = |other: Queued| of(&scene(&[mine.clone(), other]), &mine).0;
    assert_eq!(with(batch(1, 2, 400)), 70, "all of a small one");
    assert_eq!(with(batch(10, 2, 90_000)), 100, "as many as ours of a large one, whoever came first");
    assert_eq!(with(Queued { limit: 100, granted: 0, ..batch(1, 2, 90_000) }), 55);
    assert_eq!(with(Queued { is_paused: true, ..batch(1, 2, 90_000) }), 50);
}

#[test]
fn a_closed_gate_is_waited_for() {
    let mine = batch(1, 1, 100);
    let mut scene = scene(std::slice::from_ref(&mine));
    let closed = Some((NOW.after(Duration::from_secs(90)), GateReason::RateLimited));
    scene.dependencies.insert("addresses".to_owned(), Pace { closed, ..Pace::unseen(50.0, 1_000) });
    let reason = "addresses answers 429, or 403 with Retry-After, next try 07:08:10 UTC";
    assert_eq!(of(&scene, &mine), (94, reason.to_owned()));
}

#[test]
fn nothing_of_an_api_that_a_batch_never_calls_is_told_of_it() {
    let mine = batch(9, 1, 100);
    let others = [batch(1, 2, 50_000), batch(10, 3, 50_000)].map(|other| Queued { workflow_version: 2, ..other });
    let mut scene = scene(&[others[0].clone(), mine.clone(), others[1].clone()]);
    let alone = of(&self::scene(std::slice::from_ref(&mine)), &mine);
    scene.steps.insert(2, vec!["elsewhere".to_owned()]);
    for &reason in GateReason::ALL {
        for opens in [None, Some(0), Some(3_790)] {
            let closed = opens.map(|seconds| (NOW.after(Duration::from_secs(seconds)), reason));
            let slow = Pace { closed, latency: 30.0, ..Pace::unseen(0.1, 1) };
            scene.dependencies.insert("elsewhere".to_owned(), slow);
            assert_eq!(of(&scene, &mine), alone, "{opens:?}");
        }
    }
}

#[test]
fn extraction_and_waits_for_another_try_are_told_where_they_take_longest() {
    let fast = |queue: &[Queued]| {
        let mut scene = scene(queue);
        for pace in scene.dependencies.values_mut() {
            pace.per_second = 1_000_000.0;
        }
        scene
    };
    let (elder, mine) = (Queued { unextracted: 100_000, ..batch(1, 2, 100_000) }, batch(2, 1, 20_000));
    let mine = Queued { unextracted: 20_000, ..mine };
    let (seconds, reason) = of(&fast(&[elder, mine.clone()]), &mine);
    assert_eq!((seconds, reason.as_str()), (7, "its rows still have to be extracted"));
    let waiting = batch(1, 1, 2);
    let later = NOW.after(Duration::from_secs(30));
    let estimate = fast(std::slice::from_ref(&waiting))
        .estimate(&waiting, &Standing { not_before: Some(later), ..Standing::default() })
        .expect("an estimate");
    assert_eq!((estimate.seconds, estimate.reason.as_str()), (31, "its rows are tried again from 07:07:10 UTC on"));
}

#[test]
fn more_work_never_ends_sooner_and_more_speed_never_later() {
    let mut last = 0;
    for rows in [1, 10, 100, 500, 501, 1_000, 50_000, 1_000_000] {
        let mine = Queued { limit: 500, granted: 7, unextracted: rows, ..batch(5, 1, rows) };
        let queue = [batch(1, 1, 30), mine.clone(), batch(2, 2, 10_000)];
        let slow = of(&scene(&queue), &mine).0;
        let mut faster = scene(&queue);
        faster.dependencies.values_mut().for_each(|pace| pace.per_second *= 2.0);
        assert!(slow >= last && of(&faster, &mine).0 <= slow, "{rows} rows take {slow} s");
        last = slow;
    }
}

fn set(scene: &mut Scene, name: &str, change: impl FnOnce(&mut Pace)) {
    change(scene.dependencies.get_mut(name).expect("there"));
}

#[test]
fn answers_that_take_long_bound_a_batch_by_the_requests_that_may_be_under_way() {
    let mine = batch(1, 1, 1_000);
    let mut scene = scene(std::slice::from_ref(&mine));
    for name in ["addresses", "invites"] {
        set(&mut scene, name, |pace| (pace.per_second, pace.latency, pace.places) = (1_000.0, 2.0, 100));
    }
    // Two steps of 2 s over 100 places: 40 s, and one step more.
    let says = "addresses takes 2 s to answer, and no more than 100 requests to it may be under way at once";
    assert_eq!(of(&scene, &mine), (42, says.to_owned()));
    scene.under_way = 60;
    let says = "a row takes 6 s to be answered, and `workers.under_way` allows no more than 60 rows at once";
    assert_eq!(of(&scene, &mine), (100, says.to_owned()));
    assert_eq!(of(&scene, &batch(1, 1, 1)).0, 6, "the steps of a single row come one after the other");
    let nearly = Queued { pending: 0, processing: 1, ..mine };
    assert_eq!(of(&scene, &nearly).0, 3, "a row under way has half of its way behind it");
}

#[test]
fn what_was_seen_counts_where_it_is_less_than_the_limits() {
    let mine = batch(1, 1, 1_000);
    let mut scene = scene(std::slice::from_ref(&mine));
    set(&mut scene, "invites", |pace| pace.flow = Some(4.0));
    assert_eq!(of(&scene, &mine), (250, "invites gets 4 calls a second through".to_owned()));
    set(&mut scene, "invites", |pace| (pace.flow, pace.repeats) = (None, 0.5));
    // Each is called twice, and the last one that fails waits for its next try.
    assert_eq!(of(&scene, &mine).0, 102);
}

#[test]
fn rows_that_were_begun_have_less_to_do_and_need_no_grant_where_it_was_spent() {
    let mine = Queued { limit: 10, granted: 0, ..batch(1, 1, 100) };
    let mut scene = scene(std::slice::from_ref(&mine));
    set(&mut scene, "addresses", |pace| pace.per_second = 1.0);
    let seconds = |standing: Standing| scene.estimate(&mine, &standing).expect("an estimate").seconds;
    assert!(seconds(Standing::default()) >= 200, "two calls a row, at one a second");
    let at_the_last = Standing { waiting: vec![0, 0, 50], prepaid: 100, ..Standing::default() };
    assert_eq!(seconds(at_the_last), 5, "all at the last step, of which a part was counted: 100 at 20 a second");
    let half = Standing { waiting: vec![0, 0, 50], unstarted: 50, prepaid: 100, ..Standing::default() };
    assert_eq!(seconds(half), 100);
    let none = Queued { limit: 0, ..mine.clone() };
    let prepaid = Standing { waiting: vec![0, 0, 100], prepaid: 100, ..Standing::default() };
    assert!(scene.estimate(&none, &prepaid).is_some(), "nobody has to grant anything");
}

#[test]
fn a_row_that_waits_for_long_is_waited_for() {
    let mine = batch(1, 1, 100);
    let scene = scene(std::slice::from_ref(&mine));
    let says = |seconds: u64| {
        let last_due = Some(NOW.after(Duration::from_secs(seconds)));
        scene.estimate(&mine, &Standing { last_due, ..Standing::default() }).expect("an estimate")
    };
    assert_eq!(
        (says(600).seconds, says(600).reason.as_str()),
        (600, "the last of its rows that failed is tried again at 07:16:40 UTC")
    );
    assert_eq!((says(3).seconds, says(3).reason.as_str()), (5, "invites allows 20 calls a second"));
}

#[test]
fn others_behind_a_gate_that_is_none_of_its_own_are_not_waited_for() {
    let (elder, mine, other) = (batch(1, 1, 90_000), batch(2, 1, 100), batch(3, 2, 90_000));
    let mut scene = scene(&[]);
    scene.steps.insert(2, vec!["invites".to_owned(), "slow".to_owned()]);
    scene.crowd = Crowd::of([elder, other].map(|batch| Queued { workflow_version: 2, ..batch }).into());
    scene.dependencies.insert("slow".to_owned(), Pace::unseen(1.0, 10));
    assert!(of(&scene, &mine).0 >= 4_500, "it goes first");
    set(&mut scene, "slow", |pace| pace.closed = Some((NOW.after(Duration::from_secs(900)), GateReason::Unavailable)));
    assert_eq!(of(&scene, &mine), (5, "invites allows 20 calls a second".to_owned()));
}
