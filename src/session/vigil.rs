//! What may end a session's wait besides bytes: going down, and silence.
//!
//! Invariant: both are told of once and then left alone; a timer or a waiter of its own for each wait would cost every statement.

use crate::session::House;
use crate::session::link::{Link, Listen, Woke};
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio::time::Sleep;

/// What may end a wait besides bytes. Both are told of once and then left alone: a timer or a waiter of its own for each wait
/// would cost every statement.
pub(in crate::session) struct Vigil {
    draining: watch::Receiver<bool>,
    drain: Pin<Box<dyn Future<Output = ()> + Send>>,
    /// The task that `drain` wakes.
    listener: Option<Waker>,
    pub is_draining: bool,
    idle: Option<(Duration, Pin<Box<Sleep>>)>,
    /// When there last was something to do.
    since: Instant,
}

pub(in crate::session) enum Called {
    Woke(Woke),
    /// Nothing was said for too long.
    Idle,
    Draining,
    /// Nobody is left who could say so.
    ShutDown,
}

impl Vigil {
    pub fn new(house: &House) -> Vigil {
        let mut told = house.draining.clone();
        let drain = async move {
            let _ = told.wait_for(|draining| *draining).await;
        };
        Vigil {
            draining: house.draining.clone(),
            drain: Box::pin(drain),
            listener: None,
            is_draining: false,
            idle: house.idle_timeout.map(|time| (time, Box::pin(tokio::time::sleep(time)))),
            since: Instant::now(),
        }
    }

    pub async fn wait(&mut self, link: &mut Link, listen: Listen, may_idle: bool) -> Called {
        if self.idle.is_some() {
            self.since = Instant::now();
        }
        poll_fn(|cx| {
            if let Poll::Ready(called) = self.poll_drain(cx) {
                return Poll::Ready(called);
            }
            if let Poll::Ready(woke) = link.poll_wait(listen, cx) {
                return Poll::Ready(Called::Woke(woke));
            }
            self.poll_idle(may_idle, cx)
        })
        .await
    }

    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<Called> {
        if self.is_draining {
            return Poll::Pending;
        }
        let listens = self.listener.as_ref().is_some_and(|listener| listener.will_wake(cx.waker()));
        let draining = match self.draining.has_changed() {
            Err(_) => return Poll::Ready(Called::ShutDown),
            Ok(true) => true,
            Ok(false) if listens => false,
            Ok(false) => {
                self.listener = Some(cx.waker().clone());
                self.drain.as_mut().poll(cx).is_ready()
            }
        };
        if draining {
            self.is_draining = true;
            return Poll::Ready(Called::Draining);
        }
        Poll::Pending
    }

    fn poll_idle(&mut self, may_idle: bool, cx: &mut Context<'_>) -> Poll<Called> {
        let Some((time, timer)) = &mut self.idle else { return Poll::Pending };
        while timer.as_mut().poll(cx).is_ready() {
            let quiet_for = self.since.elapsed();
            if may_idle && quiet_for >= *time {
                return Poll::Ready(Called::Idle);
            }
            // Something was said since the timer was set: the rest of the time remains.
            let rest = if may_idle { time.saturating_sub(quiet_for) } else { *time };
            timer.as_mut().reset(tokio::time::Instant::now() + rest);
        }
        Poll::Pending
    }
}
