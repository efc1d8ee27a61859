use super::*;
use crate::agents::result::Failures;

fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

#[test]
fn each_question_of_the_measurement_ends_in_one_count_and_others_in_none() {
    let tally = Tally::default();
    tally.asks(ms(1)).answered(ms(2), Answered::AtOnce);
    tally.window.set(ms(1000), ms(2000));
    tally.asks(ms(999)).failed(ms(1000), FailureKind::Broken);
    tally.asks(ms(1000)).answered(ms(1003), Answered::AtOnce);
    tally.asks(ms(1500)).answered(ms(1900), Answered::Held { offer: true });
    tally.asks(ms(1600)).failed(ms(1000), FailureKind::Timeout);
    drop(tally.asks(ms(1999)));
    drop(tally.asks(ms(2000)));
    let counts = tally.counts().clone();
    assert_eq!((counts.scheduled, counts.answered, counts.cut), (4, 2, 1));
    assert_eq!(counts.failures, Failures::from([(FailureKind::Timeout, 1)]));
    assert_eq!((counts.latency.count(), counts.held.count(), counts.held_offers), (1, 1, 1));
    assert_eq!(counts.course.longest_silence, ms(897));
    let second = tally.end_second();
    assert_eq!((second.answered, second.failed, second.latency.count()), (3, 2, 2));
    assert_eq!(tally.end_second().answered, 0);
}

#[test]
fn a_question_that_may_be_held_counts_where_it_ends() {
    let tally = Tally::default();
    let (early, asked_before, open) =
        (tally.asks_patiently(ms(1)), tally.asks_patiently(ms(2)), tally.asks_patiently(ms(3)));
    tally.window.set(ms(1000), ms(2000));
    early.answered(ms(999), Answered::AtOnce);
    asked_before.answered(ms(1500), Answered::Held { offer: false });
    tally.asks_patiently(ms(1700)).failed(ms(2100), FailureKind::Broken);
    drop((open, tally.asks_patiently(ms(2000))));
    let counts = tally.counts().clone();
    assert_eq!((counts.scheduled, counts.held.count(), counts.cut, counts.failures.len()), (2, 1, 1, 0));
}

#[test]
fn latency_counts_from_the_scheduled_time() {
    let tally = Tally::default();
    tally.window.set(ms(0), ms(100_000));
    // An agent that is due once in a second and gets its first answer after three.
    for due in [0, 1000, 2000] {
        tally.asks(ms(due)).answered(ms(3000), Answered::AtOnce);
    }
    let percentiles = tally.counts().latency.percentiles().expect("three");
    assert_eq!(percentiles.p50_us / 10_000, 200);
    assert_eq!(percentiles.max_us / 10_000, 300);
}

#[test]
fn a_restart_is_no_silence_and_a_second_without_an_answer_after_it_is() {
    let tally = Tally::default();
    tally.window.set(ms(0), ms(100_000));
    let answered = |now| tally.asks(ms(0)).answered(ms(now), Answered::AtOnce);
    answered(1000);
    tally.restarted();
    assert_eq!(tally.generation(), 1);
    for now in [9000, 9900] {
        answered(now);
        tally.comes_back(ms(now));
    }
    assert_eq!((tally.course().longest_silence, tally.course().silent_seconds), (ms(900), 0));
    answered(12_000);
    assert_eq!((tally.course().longest_silence, tally.course().silent_seconds), (ms(2100), 2));
    assert_eq!(tally.course().back, Some(Back { agents: 2, first: ms(9000), last: ms(9900) }));
}

#[test]
fn what_other_processes_say_adds_up_to_what_one_would_have_counted() {
    let (all, workers) = (Tally::default(), [Tally::default(), Tally::default()]);
    all.expect_words(2);
    for round in 0..3 {
        for (number, worker) in workers.iter().enumerate() {
            worker.window.set(ms(0), ms(100_000));
            worker.joins(ms(7));
            worker.asks(ms(1000)).answered(ms(1001 + round), Answered::AtOnce);
            worker.asks(ms(1000)).failed(ms(1000), FailureKind::Broken);
            let word = serde_json::to_string(&worker.word()).expect("serializes");
            all.hear(number, &serde_json::from_str(&word).expect("what was written"));
        }
    }
    let counts = all.counts().clone();
    assert_eq!((counts.scheduled, counts.answered, all.joined()), (12, 6, 6));
    assert_eq!(counts.failures, Failures::from([(FailureKind::Broken, 6)]));
    assert_eq!(counts.latency.percentiles().map(|all| (all.p50_us / 1000, all.max_us / 1000)), Some((2, 3)));
    assert_eq!(all.end_second().answered, 6);
    assert_eq!(all.course().longest_silence, ms(1));
}

#[test]
fn gauges_go_down_again() {
    let tally = Tally::default();
    let (one, two) = (tally.connection(), tally.connection());
    assert_eq!((tally.connected(), tally.tunnels()), (2, 0));
    drop((one, two));
    assert_eq!(tally.connected(), 0);
}
