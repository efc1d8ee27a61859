//! Questions that are held, over both versions of HTTP, and what cuts them off.

use super::*;

const WAIT: Duration = Duration::from_secs(2);
/// Some moment while a question is held.
const MEANWHILE: Duration = Duration::from_millis(1200);
const HELD: (&str, &str) = ("preference-applied", "wait");

fn may_be_held(pace: Pace) -> Question {
    Question { hello: hello(), failed: None, pace, wait: Some(WAIT) }
}

/// Over HTTP/2 with TLS, and over HTTP/1.1 without, beside each other: most of these tests wait.
async fn on_both(test: impl AsyncFn(FakeGateway)) {
    let (http2, http1) = (FakeGateway::start_tls(&["h2", "http/1.1"]).await, FakeGateway::start().await);
    tokio::join!(test(http2), test(http1));
}

/// How long the question was out that was cut off.
#[track_caller]
fn cut(outcome: Outcome) -> Duration {
    let Outcome::Cut { after, .. } = outcome else { panic!("{outcome:?}") };
    after
}

#[tokio::test]
async fn each_gateway_is_asked_in_the_version_that_tls_agrees_on_over_one_connection() {
    for (alpn, version) in [
        (&["h2", "http/1.1"][..], Version::HTTP_2),
        (&["http/1.1"][..], Version::HTTP_11),
        (&[][..], Version::HTTP_11),
    ] {
        let gateway = FakeGateway::start_tls(alpn).await;
        let mut client = gateway.client();
        for _ in 0..3 {
            assert_eq!(client.check_in(&question(None)).await, NOTHING_NEW);
        }
        assert_eq!(client.endpoint.put_snapshot(Bytes::from_static(&[1])).await, Sent::Stored);
        let seen = gateway.seen();
        assert!(seen.iter().all(|seen| seen.version == version), "{alpn:?}");
        let connections: Vec<_> = seen.iter().map(|seen| seen.connection).collect();
        assert_eq!(connections, [0, 0, 0, 1], "{alpn:?}");
    }
}

#[tokio::test]
async fn question_that_is_held_has_the_time_that_it_asks_for_and_brings_what_it_was_held_for() {
    let offer = r#""offer":{"id":"6fa1d3a0-9c3e-4b62-8b0f-0d7b0a2a4d11","ssh":"g:8000","credentials":"x","expires_in_s":30}"#;
    on_both(async |gateway| {
        let mut client = gateway.client();
        gateway.will(Act::Answer(WAIT, response(204, &[HELD], "")));
        let began = Instant::now();
        let answered = client.check_in(&may_be_held(Pace::Usual)).await;
        assert_eq!(answered, Outcome::Answered { interval: None, offer: None, holds: true, rerouted: false });
        assert!(began.elapsed() >= WAIT);
        let needed = format!(r#"{{"interval_s":5,"need":"tunnel",{offer}}}"#);
        gateway.will(Act::Answer(MEANWHILE, response(200, &[HELD], needed)));
        let answered = client.check_in(&may_be_held(Pace::Following)).await;
        assert!(matches!(answered, Outcome::Answered { offer: Some(_), holds: true, .. }), "{answered:?}");
        let seen = gateway.seen();
        assert_eq!(seen.iter().map(|seen| seen.connection).max(), Some(0), "all on one connection");
        assert!(seen.iter().all(|seen| seen.headers["prefer"] == "wait=2"));
    })
    .await;
}

#[tokio::test]
async fn connection_that_breaks_while_a_question_is_held_has_cut_it_off_and_is_made_anew() {
    on_both(async |gateway| {
        let mut client = gateway.client();
        client.check_in(&question(None)).await;
        gateway.will(Act::Break(MEANWHILE));
        let after = cut(client.check_in(&may_be_held(Pace::Following)).await);
        assert!(after >= MEANWHILE && after < WAIT, "{after:?}");
        assert_eq!(client.check_in(&may_be_held(Pace::Usual)).await, NOTHING_NEW);
        let last = gateway.seen().pop().expect("asked");
        assert_eq!((last.connection, last.check_in().hello.is_some()), (1, true));
    })
    .await;
}

#[tokio::test]
async fn silence_beyond_the_time_that_was_asked_for_has_cut_the_question_off() {
    on_both(async |gateway| {
        let mut client = gateway.client();
        client.check_in(&question(None)).await;
        gateway.will(Act::Silence);
        let after = cut(client.check_in(&may_be_held(Pace::Following)).await);
        assert!(after >= WAIT + HOLD_GRACE && after < WAIT + 2 * HOLD_GRACE, "{after:?}");
        client.check_in(&question(None)).await;
        assert_eq!(gateway.seen().pop().expect("asked").connection, 1);
    })
    .await;
}

#[tokio::test]
async fn proxy_that_loses_its_patience_has_cut_the_question_off_and_a_gateway_with_a_reason_has_not() {
    let reason = r#"{"type":"about:blank#x","title":"t","status":503,"code":"busy","detail":"later"}"#;
    on_both(async |gateway| {
        let mut client = gateway.client();
        for status in [408, 502, 503, 504] {
            gateway.will(Act::Answer(MEANWHILE, response(status, &[], "<html>")));
            assert!(cut(client.check_in(&may_be_held(Pace::Usual)).await) >= MEANWHILE);
        }
        gateway.will(Act::Answer(MEANWHILE, response(503, &[], reason)));
        gateway.will(Act::Answer(Duration::ZERO, response(502, &[], "<html>")));
        for _ in 0..2 {
            let outcome = client.check_in(&may_be_held(Pace::Usual)).await;
            assert!(matches!(outcome, Outcome::Trouble { .. }), "{outcome:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn gateway_that_says_goodbye_with_its_answer_is_not_followed_onto_another_connection() {
    on_both(async |gateway| {
        let mut client = gateway.client();
        gateway.will(Act::Goodbye(MEANWHILE, response(204, &[HELD], "")));
        let answered = client.check_in(&may_be_held(Pace::Usual)).await;
        assert!(matches!(answered, Outcome::Answered { holds: true, .. }), "{answered:?}");
        cut(client.check_in(&may_be_held(Pace::Following)).await);
        assert_eq!(client.check_in(&may_be_held(Pace::Usual)).await, NOTHING_NEW, "on a new one");
        let connections: Vec<_> = gateway.seen().iter().map(|seen| seen.connection).collect();
        assert_eq!(connections, [0, 1]);
    })
    .await;
}

#[tokio::test]
async fn question_that_is_given_up_makes_room_for_the_next_and_an_eager_one_trusts_no_old_connection() {
    on_both(async |gateway| {
        let mut client = gateway.client();
        gateway.will(Act::Silence);
        let held = may_be_held(Pace::Usual);
        timeout(Duration::from_millis(200), client.check_in(&held)).await.expect_err("it is held");
        assert_eq!(client.check_in(&may_be_held(Pace::Usual)).await, NOTHING_NEW);
        let eager = Question { pace: Pace::Eager, wait: None, ..question(None) };
        assert_eq!(client.check_in(&eager).await, NOTHING_NEW);
        let seen = gateway.seen();
        let connections: Vec<_> = seen.iter().map(|seen| seen.connection).collect();
        let expected = if seen[0].version == Version::HTTP_2 { [0, 0, 1] } else { [0, 1, 2] };
        assert_eq!(connections, expected);
    })
    .await;
}

#[tokio::test]
async fn connection_that_was_forgotten_while_it_was_idle_is_made_anew_also_for_a_question_that_may_be_held() {
    on_both(async |gateway| {
        let mut client = gateway.client();
        client.check_in(&question(None)).await;
        gateway.generation.send_replace(());
        let outcome = client.check_in(&may_be_held(Pace::Usual)).await;
        assert!(matches!(outcome, Outcome::Answered { .. }), "{outcome:?}");
        assert_eq!(gateway.seen().pop().expect("asked").connection, 1);
    })
    .await;
}
