// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Threads that wait for devices.
//!
//! A lane is a queue with threads behind it. Each device of a volume has two: one for requests, and
//! one for what recovery asks for, so that a disk that swallows every request thread for half a
//! minute does not keep recovery from its own reads. Threads are started when work finds none idle,
//! up to the lane's bound, and stay until the lane is closed: an idle volume costs two a device at
//! most. No lane ever waits for another.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

/// A queue of `T` and the threads that work it off.
pub(crate) struct Lane<T> {
    shared: Arc<Queue<T>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    bound: usize,
    name: String,
    work: Arc<dyn Fn(T) + Send + Sync>,
}

struct Queue<T> {
    state: Mutex<State<T>>,
    wake: Condvar,
}

struct State<T> {
    waiting: VecDeque<T>,
    idle: usize,
    threads: usize,
    closed: bool,
}

impl<T: Send + 'static> Lane<T> {
    /// A lane of at most `bound` threads that hand each piece of work to `work`. One thread is
    /// started at once.
    ///
    /// # Errors
    /// That thread cannot be started.
    pub(crate) fn new(
        name: String,
        bound: usize,
        work: impl Fn(T) + Send + Sync + 'static,
    ) -> std::io::Result<Lane<T>> {
        let state = State { waiting: VecDeque::new(), idle: 0, threads: 0, closed: false };
        let shared = Arc::new(Queue { state: Mutex::new(state), wake: Condvar::new() });
        let lane = Lane {
            shared,
            threads: Mutex::default(),
            bound: bound.max(1),
            name,
            work: Arc::new(work),
        };
        lane.shared.lock().threads = 1;
        lane.start_thread().inspect_err(|_| lane.shared.lock().threads = 0)?;
        Ok(lane)
    }

    /// Queues `work`; done even if the lane is closed meanwhile, and here if it has been before.
    pub(crate) fn push(&self, work: T) {
        let mut state = self.shared.lock();
        if state.closed {
            drop(state);
            return (self.work)(work);
        }
        state.waiting.push_back(work);
        let starved = state.idle < state.waiting.len() && state.threads < self.bound;
        if starved {
            state.threads += 1;
        }
        drop(state);
        self.shared.wake.notify_one();
        // Without another thread the work waits for one that exists; there is always one.
        if starved && self.start_thread().is_err() {
            self.shared.lock().threads -= 1;
        }
    }

    fn start_thread(&self) -> std::io::Result<()> {
        let (queue, work) = (Arc::clone(&self.shared), Arc::clone(&self.work));
        let handle = std::thread::Builder::new().name(self.name.clone()).spawn(move || {
            while let Some(item) = queue.next() {
                work(item);
            }
        })?;
        self.threads.lock().unwrap_or_else(PoisonError::into_inner).push(handle);
        Ok(())
    }

    /// Ends the threads once the queue is empty, and waits for them: for nothing but devices.
    pub(crate) fn close(&self) {
        self.shared.lock().closed = true;
        self.shared.wake.notify_all();
        let threads =
            std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        let me = std::thread::current().id();
        for thread in threads.into_iter().filter(|thread| thread.thread().id() != me) {
            let _ = thread.join();
        }
    }
}

impl<T> Drop for Lane<T> {
    /// The threads end once the queue is empty, whenever that is: nobody waits for them.
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.wake.notify_all();
    }
}

impl<T> Queue<T> {
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next piece of work; `None` when the lane is closed and empty.
    fn next(&self) -> Option<T> {
        let mut state = self.lock();
        loop {
            if let Some(item) = state.waiting.pop_front() {
                return Some(item);
            }
            if state.closed {
                return None;
            }
            state.idle += 1;
            state = self.wake.wait(state).unwrap_or_else(PoisonError::into_inner);
            state.idle -= 1;
        }
    }
}
