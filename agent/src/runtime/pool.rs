//! A few threads and one queue of instances that want to run. Fair by turns: who has used up a slice goes to the end.
//!
//! Must never run an instance on two threads, nor know what a function is.
use super::component::{Component, Turn};
use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

/// Threads that run functions; more do not help a board with few cores.
pub const WORKERS_MAX: usize = 4;

enum Task {
    Load(Arc<Component>),
    Step(Arc<Component>, u16),
}

/// Holds each loading component and each instance at most once, so that their number is its limit.
#[derive(Default)]
struct Queue {
    tasks: VecDeque<Task>,
    closed: bool,
}

#[derive(Default)]
struct Line {
    queue: Mutex<Queue>,
    arrived: Condvar,
}

/// Puts instances into the queue.
#[derive(Clone)]
pub(super) struct Entrance(Arc<Line>);

pub struct Pool {
    entrance: Entrance,
    threads: Vec<JoinHandle<()>>,
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pool").field("threads", &self.threads.len()).finish_non_exhaustive()
    }
}

impl Entrance {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.0.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, task: Task) {
        self.lock().tasks.push_back(task);
        self.0.arrived.notify_one();
    }

    /// The caller makes sure that the instance is not in the queue already.
    pub(super) fn step(&self, component: Arc<Component>, instance: u16) {
        self.push(Task::Step(component, instance));
    }

    /// `None`: the pool is closed.
    fn next(&self) -> Option<Task> {
        let mut queue = self.lock();
        loop {
            if queue.closed {
                return None;
            }
            match queue.tasks.pop_front() {
                Some(task) => return Some(task),
                None => queue = self.0.arrived.wait(queue).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }

    fn work(&self) {
        while let Some(task) = self.next() {
            match task {
                Task::Load(component) => component.load(self),
                Task::Step(component, instance) => match component.step(instance) {
                    Turn::Again => self.step(component, instance),
                    Turn::Rest => {}
                },
            }
        }
    }
}

impl Pool {
    /// As many threads as this machine can use.
    pub fn of_this_machine() -> io::Result<Self> {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self::start(cores.clamp(1, WORKERS_MAX))
    }

    pub fn start(threads: usize) -> io::Result<Self> {
        let entrance = Entrance(Arc::default());
        let mut pool = Self { entrance, threads: Vec::new() };
        for number in 0..threads {
            let entrance = pool.entrance.clone();
            let builder = std::thread::Builder::new().name(format!("function-{number}"));
            pool.threads.push(builder.spawn(move || entrance.work())?);
        }
        Ok(pool)
    }

    pub(super) fn entrance(&self) -> &Entrance {
        &self.entrance
    }

    pub(super) fn load(&self, component: Arc<Component>) {
        self.entrance.push(Task::Load(component));
    }
}

impl Drop for Pool {
    /// Ends after the slices that are running now; what is in the queue is dropped.
    fn drop(&mut self) {
        let tasks = {
            let mut queue = self.entrance.lock();
            queue.closed = true;
            std::mem::take(&mut queue.tasks)
        };
        drop(tasks);
        self.entrance.0.arrived.notify_all();
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a thread that runs functions had panicked");
            }
        }
    }
}
