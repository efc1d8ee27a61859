use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::task::Wake;
use std::thread;

use proptest::prelude::*;

use super::*;

/// Counts how often it was woken.
#[derive(Default)]
struct Bell(AtomicUsize);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

fn poll(held: &mut Held, bell: &Arc<Bell>) -> Poll<Ended> {
    Pin::new(held).poll(&mut Context::from_waker(&Waker::from(Arc::clone(bell))))
}

fn open(start: Instant) -> (Registered, Arc<Standing>) {
    let registered = Registered::new(start);
    registered.open();
    let shared = registered.share();
    (registered, shared)
}

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn what_is_closed_or_forgotten_passes_nobody() {
    let start = Instant::now();
    let registered = Registered::new(start);
    let shared = registered.share();
    assert!(!shared.pass(start), "nothing was decided yet");
    registered.open();
    assert!(shared.pass(start + seconds(5)));
    assert_eq!(shared.heard(), start + seconds(5));
    registered.close();
    assert!(!shared.pass(start + seconds(6)));
    assert!(shared.hold(start + seconds(60)).is_none());
    assert_eq!(shared.heard(), start + seconds(5), "who is told nothing was not heard");
    registered.open();
    drop(registered);
    assert!(!shared.pass(start + seconds(7)));
}

#[test]
fn held_question_is_woken_by_news_and_by_nothing_else() {
    let (start, bell) = (Instant::now(), Arc::new(Bell::default()));
    let (registered, shared) = open(start);
    let mut held = shared.hold(start + seconds(50)).expect("nothing is new");
    assert!(poll(&mut held, &bell).is_pending());
    assert_eq!(shared.heard(), start + seconds(50), "a held agent has no reason to speak");
    registered.open();
    assert_eq!(bell.0.load(Ordering::SeqCst), 0);
    registered.close();
    registered.close();
    assert_eq!(bell.0.load(Ordering::SeqCst), 1);
    assert_eq!(poll(&mut held, &bell), Poll::Ready(Ended::News));
    held.release(start + seconds(3));
    assert_eq!(shared.heard(), start + seconds(3));
}

#[test]
fn newer_question_takes_the_place_of_the_one_that_is_held() {
    let (start, bell) = (Instant::now(), Arc::new(Bell::default()));
    let (registered, shared) = open(start);
    let mut first = shared.hold(start + seconds(50)).expect("nothing is new");
    assert!(poll(&mut first, &bell).is_pending());
    let mut second = shared.hold(start + seconds(70)).expect("nothing is new");
    assert_eq!(poll(&mut first, &bell), Poll::Ready(Ended::Replaced));
    first.release(start + seconds(20));
    assert_eq!(shared.heard(), start + seconds(70), "the end of the first is none of the second's");
    assert!(poll(&mut second, &bell).is_pending());
    // One that may not be held goes to the registry, which hears it.
    assert!(!shared.pass(start + seconds(21)));
    registered.hear(start + seconds(21));
    assert_eq!(bell.0.load(Ordering::SeqCst), 2);
    assert_eq!(poll(&mut second, &bell), Poll::Ready(Ended::Replaced));
    second.release(start + seconds(22));
    assert_eq!(shared.heard(), start + seconds(21));
    assert!(shared.pass(start + seconds(26)));
}

#[test]
fn who_is_judged_silent_is_closed_and_who_is_held_is_not_silent() {
    let start = Instant::now();
    let (registered, shared) = open(start);
    assert!(!registered.fell_silent(seconds(15), start + seconds(15)));
    assert!(shared.pass(start + seconds(15)));
    assert!(registered.fell_silent(seconds(15), start + seconds(31)));
    assert!(!shared.pass(start + seconds(31)));
    registered.hear(start + seconds(40));
    registered.open();
    let held = shared.hold(start + seconds(90)).expect("nothing is new");
    assert!(!registered.fell_silent(seconds(15), start + seconds(100)));
    held.release(start + seconds(60));
    assert!(registered.fell_silent(seconds(15), start + seconds(100)));
}

#[test]
fn held_question_of_a_forgotten_instance_is_not_put_again() {
    let (start, bell) = (Instant::now(), Arc::new(Bell::default()));
    let (registered, shared) = open(start);
    let mut held = shared.hold(start + seconds(50)).expect("nothing is new");
    assert!(poll(&mut held, &bell).is_pending());
    drop(registered);
    assert_eq!(bell.0.load(Ordering::SeqCst), 1);
    assert_eq!(poll(&mut held, &bell), Poll::Ready(Ended::Forgotten));
    held.release(start + seconds(1));
    assert!(shared.hold(start + seconds(50)).is_none());
}

/// What happens to a standing, one after the other.
#[derive(Clone, Copy, Debug)]
enum Step {
    Open,
    Close,
    Hear,
    Pass,
    Hold,
    Release,
    Judge,
}

proptest! {
    /// Against the table of the module, with one question held at most.
    #[test]
    fn every_order_of_steps_follows_the_table(
        steps in prop::collection::vec(
            (prop::sample::select(vec![
                Step::Open, Step::Close, Step::Hear, Step::Pass, Step::Hold, Step::Release, Step::Judge,
            ]), 0u64..40),
            0..60,
        )
    ) {
        let (start, bell) = (Instant::now(), Arc::new(Bell::default()));
        let registered = Registered::new(start);
        let shared = registered.share();
        let (mut now, mut is_open, mut heard) = (start, false, start);
        let mut held: Option<Held> = None;
        for (step, later) in steps {
            now += seconds(later);
            match step {
                Step::Open => { registered.open(); is_open = true; }
                Step::Close => { registered.close(); is_open = false; }
                Step::Hear => { registered.hear(now); heard = now; held = None; }
                Step::Pass => {
                    let passes = is_open && held.is_none();
                    prop_assert_eq!(shared.pass(now), passes);
                    if passes { heard = heard.max(now); }
                }
                Step::Hold => {
                    let next = shared.hold(now + seconds(50));
                    prop_assert_eq!(next.is_some(), is_open);
                    if let Some(next) = next { held = Some(next); heard = now + seconds(50); }
                }
                Step::Release => if let Some(held) = held.take() { held.release(now); heard = heard.min(now); },
                Step::Judge => {
                    let is_silent = now > heard + seconds(15);
                    prop_assert_eq!(registered.fell_silent(seconds(15), now), is_silent);
                    is_open &= !is_silent;
                }
            }
            prop_assert_eq!(shared.heard(), heard);
            if let Some(held) = &mut held {
                prop_assert_eq!(poll(held, &bell).is_ready(), !is_open);
            }
        }
    }
}

/// An answer is never given by somebody after another thread was told that the agent is silent, and none is lost to it.
#[test]
fn silence_and_answers_agree_between_threads() {
    for round in 0..2_000 {
        let start = Instant::now();
        let (registered, shared) = open(start);
        let late = start + seconds(20);
        let begun = Arc::new(AtomicBool::new(false));
        let asking = thread::spawn({
            let begun = Arc::clone(&begun);
            move || {
                begun.store(true, Ordering::Release);
                shared.pass(late)
            }
        });
        while round % 2 == 0 && !begun.load(Ordering::Acquire) {
            std::hint::spin_loop();
        }
        let is_silent = registered.fell_silent(seconds(15), late);
        let has_passed = asking.join().expect("no panic");
        assert_ne!(is_silent, has_passed, "round {round}");
    }
}

/// Whatever the order in which threads hold and close, whoever is held hears of it.
#[test]
fn no_wake_up_is_lost_between_threads() {
    for _ in 0..2_000 {
        let start = Instant::now();
        let (registered, shared) = open(start);
        let bell = Arc::new(Bell::default());
        let asking = thread::spawn({
            let bell = Arc::clone(&bell);
            move || {
                let mut held = shared.hold(start + seconds(50))?;
                let at_once = poll(&mut held, &bell).is_ready();
                Some((held, at_once))
            }
        });
        registered.close();
        if let Some((mut held, at_once)) = asking.join().expect("no panic") {
            assert!(at_once || bell.0.load(Ordering::SeqCst) == 1, "it was held and nobody woke it");
            assert_eq!(poll(&mut held, &bell), Poll::Ready(Ended::News));
        }
    }
}
