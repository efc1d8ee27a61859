//! A future that is asked at every turn of a loop, and polled only when something woke it.
//!
//! The end of a right, say, hangs on a timer and on a list in which all streams of a gateway wait; to poll that for each
//! message takes longer than to look at the message. The rule: whoever asks last is woken.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use futures_util::task::AtomicWaker;

/// Wraps a future. See the module's text.
#[derive(Debug)]
pub struct Alarm<F> {
    future: Pin<Box<F>>,
    bell: Arc<Bell>,
}

#[derive(Debug)]
struct Bell {
    rung: AtomicBool,
    sleeper: AtomicWaker,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.rung.store(true, Ordering::Release);
        self.sleeper.wake();
    }
}

impl<F: Future> Alarm<F> {
    /// Completes when `future` does.
    pub fn new(future: F) -> Self {
        // Rung, so that the first look polls.
        let bell = Bell { rung: AtomicBool::new(true), sleeper: AtomicWaker::new() };
        Self { future: Box::pin(future), bell: Arc::new(bell) }
    }
}

impl<F: Future> Future for Alarm<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        // Before the look, so that whoever rings after it finds the right one to wake.
        self.bell.sleeper.register(cx.waker());
        if !self.bell.rung.load(Ordering::Acquire) {
            return Poll::Pending;
        }
        self.bell.rung.store(false, Ordering::Release);
        let waker = Waker::from(Arc::clone(&self.bell));
        self.future.as_mut().poll(&mut Context::from_waker(&waker))
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn what_is_asked_often_is_polled_only_when_it_was_woken() {
        let (send, received) = oneshot::channel();
        let mut polls = 0;
        let mut received = Box::pin(received);
        let mut alarm = Alarm::new(poll_fn(|cx| {
            polls += 1;
            received.as_mut().poll(cx)
        }));
        for _ in 0..100 {
            let asked = poll_fn(|cx| Poll::Ready(Pin::new(&mut alarm).poll(cx))).await;
            assert!(asked.is_pending());
        }
        let sending = tokio::spawn(async move {
            tokio::task::yield_now().await;
            send.send(7).expect("somebody waits");
        });
        assert_eq!((&mut alarm).await, Ok(7));
        drop(alarm);
        assert_eq!(polls, 2);
        sending.await.expect("no panic");
    }
}
