//! How the edges talk to the engine thread: bounded queues in, one answer per question out, bounded streams for followers.
//!
//! A handle never decides anything; a full queue is an answer (503), never a wait without end. Questions have a queue of
//! their own: a fleet that reports all at once must not keep its operators out. The engine thread owns a `Switchboard`,
//! which remembers who waits for which ticket.

use crate::engine::port::{Answer, Follow, Input, Problem, Request, StreamItem, Ticket};
use crate::problem_code::ProblemCode;
use async_channel::{Receiver, Sender, TrySendError};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Inputs that wait for the engine thread; beyond it devices' messages push back on the link.
pub const ENGINE_QUEUE_MAX: usize = 4096;
/// Questions that wait for the engine thread; more are refused.
pub const QUESTIONS_WAITING_MAX: usize = 1024;
/// Lines that wait for one follower; the engine's own bound on dropped lines comes before it.
pub const FOLLOWER_QUEUE_MAX: usize = 1024;

/// What reaches the engine thread.
#[derive(Debug)]
pub enum Message {
    Input(Input),
    /// A question, with the places where its answer and stream go.
    Ask {
        actor: String,
        request: Request,
        ticket: Ticket,
        answer: Sender<Result<Answer, Problem>>,
        stream: Option<Sender<StreamItem>>,
    },
    /// The engine thread ends.
    Stop,
}

/// Cheap to clone; every clone asks the same engine.
#[derive(Clone, Debug)]
pub struct Handle {
    queue: Sender<Message>,
    questions: Sender<Message>,
    next: Arc<AtomicU64>,
}

/// The engine thread's end of both queues.
#[derive(Debug)]
pub struct Inbox {
    messages: Receiver<Message>,
    questions: Receiver<Message>,
    /// The other queue is looked at first next time: neither can keep the other waiting.
    questions_first: bool,
}

impl Inbox {
    /// What waits, from both queues in turn.
    pub fn try_recv(&mut self) -> Option<Message> {
        self.questions_first = !self.questions_first;
        let (first, second) =
            if self.questions_first { (&self.questions, &self.messages) } else { (&self.messages, &self.questions) };
        first.try_recv().or_else(|_| second.try_recv()).ok()
    }

    /// The next from either queue; `None` when all handles are gone.
    pub async fn recv(&self) -> Option<Message> {
        futures_lite::future::or(self.questions.recv(), self.messages.recv()).await.ok()
    }

    /// Nothing is taken any more: whoever waits for room or for an answer hears of it.
    pub fn close(&self) {
        self.messages.close();
        self.questions.close();
    }
}

/// The rest of a followed list. Dropping it tells the engine.
#[derive(Debug)]
pub struct Following {
    items: Receiver<StreamItem>,
    ticket: Ticket,
    /// The queue that brought the question: what follows it must not overtake it.
    questions: Sender<Message>,
    /// Nobody has to hear of the end: the question is answered, and nothing follows.
    is_over: bool,
    /// The engine gives a watcher no more than it has taken and was credited for.
    is_watch: bool,
    taken: u32,
}

/// Items that a watcher takes before it says so.
const TOOK_AT: u32 = crate::engine::WATCHER_CREDIT_MAX / 2;

impl Handle {
    /// The handle and the engine thread's end of its queues.
    pub fn new() -> (Self, Inbox) {
        let (queue, messages) = async_channel::bounded(ENGINE_QUEUE_MAX);
        let (questions, asked) = async_channel::bounded(QUESTIONS_WAITING_MAX);
        let inbox = Inbox { messages, questions: asked, questions_first: false };
        (Self { queue, questions, next: Arc::new(AtomicU64::new(1)) }, inbox)
    }

    /// For the link and the writer, which may wait.
    pub fn queue(&self) -> Sender<Message> {
        self.queue.clone()
    }

    /// Asks once.
    pub async fn request(&self, actor: &str, request: Request) -> Result<Answer, Problem> {
        self.ask(actor, request).await.map(|(answer, _)| answer)
    }

    /// Asks, and follows if the request says so.
    pub async fn ask(&self, actor: &str, request: Request) -> Result<(Answer, Option<Following>), Problem> {
        let ticket = Ticket(self.next.fetch_add(1, Ordering::Relaxed));
        let follows = matches!(
            &request,
            Request::Logs { follow: Follow::Follow, .. }
                | Request::Samples { follow: Follow::Follow, .. }
                | Request::Events { follow: Follow::Follow, .. }
                | Request::Watch { .. }
                | Request::EventsWatch { .. }
        );
        let is_watch = matches!(&request, Request::Watch { .. });
        let (answer, answers) = async_channel::bounded(1);
        let (stream, items) = async_channel::bounded(FOLLOWER_QUEUE_MAX);
        let message =
            Message::Ask { actor: actor.to_owned(), request, ticket, answer, stream: follows.then_some(stream) };
        self.questions.try_send(message).map_err(|error| match error {
            TrySendError::Full(_) => busy(),
            TrySendError::Closed(_) => stopping(),
        })?;
        // Made before the wait: if the caller goes away meanwhile, the engine hears of it.
        let mut following =
            Following { items, ticket, questions: self.questions.clone(), is_over: false, is_watch, taken: 0 };
        let answer = answers.recv().await.map_err(|_| stopping()).flatten();
        following.is_over = !follows || answer.is_err();
        Ok((answer?, follows.then_some(following)))
    }
}

impl Following {
    /// The next item; `None` when the hub stops or the followed object is gone.
    pub async fn next(&mut self) -> Option<StreamItem> {
        let item = self.items.recv().await.ok()?;
        self.taken += u32::from(self.is_watch);
        if self.taken >= TOOK_AT {
            let took = Input::Took { ticket: self.ticket, items: std::mem::take(&mut self.taken) };
            // The engine never waits for a watcher, so this one may wait for it.
            self.questions.send(Message::Input(took)).await.ok()?;
        }
        Some(item)
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        if self.is_over {
            return;
        }
        // If the queue is full the switchboard notices at the next item that nobody listens.
        let _ = self.questions.try_send(Message::Input(Input::Cancel { ticket: self.ticket }));
    }
}

/// Who waits for what; owned by the engine thread.
#[derive(Debug, Default)]
pub struct Switchboard {
    answers: HashMap<Ticket, Sender<Result<Answer, Problem>>>,
    streams: HashMap<Ticket, Sender<StreamItem>>,
}

impl Switchboard {
    /// Remembers a question; the input goes to the engine.
    pub fn accept(&mut self, message: Message) -> Option<Input> {
        match message {
            Message::Input(input) => {
                if let Input::Cancel { ticket } = &input {
                    self.answers.remove(ticket);
                    self.streams.remove(ticket);
                }
                Some(input)
            }
            Message::Ask { actor, request, ticket, answer, stream } => {
                self.answers.insert(ticket, answer);
                if let Some(stream) = stream {
                    self.streams.insert(ticket, stream);
                }
                Some(Input::Request { ticket, actor, request })
            }
            Message::Stop => None,
        }
    }

    pub fn answer(&mut self, ticket: Ticket, result: Result<Answer, Problem>) {
        if result.is_err() {
            self.streams.remove(&ticket);
        }
        if let Some(waiting) = self.answers.remove(&ticket) {
            // Nobody there any more: nothing to tell.
            let _ = waiting.try_send(result);
        }
    }

    /// Hands an item on. Returns an input for the engine when the follower is gone or too slow to be kept.
    pub fn stream(&mut self, ticket: Ticket, item: StreamItem) -> Option<Input> {
        let is_end = matches!(item, StreamItem::End | StreamItem::Ended(_));
        let kept = match self.streams.get(&ticket) {
            Some(follower) => follower.try_send(item).is_ok(),
            None => return None,
        };
        if is_end || !kept {
            self.streams.remove(&ticket);
        }
        (!kept).then_some(Input::Cancel { ticket })
    }
}

fn busy() -> Problem {
    let detail = format!("{QUESTIONS_WAITING_MAX} requests wait already, so this one was not taken");
    Problem::new(ProblemCode::Busy, detail)
}

fn stopping() -> Problem {
    let detail = "the hub was stopped before it answered; a write that was not answered may or may not have happened";
    Problem::new(ProblemCode::Stopping, detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_gets_its_answer_and_a_dropped_follower_is_cancelled() {
        smol::block_on(async {
            let (handle, inbox) = Handle::new();
            let mut board = Switchboard::default();
            let request = Request::Events { object: None, tail: 0, follow: Follow::Follow };
            let asking = smol::spawn({
                let handle = handle.clone();
                async move { handle.ask("test", request).await }
            });
            let Some(Input::Request { ticket, .. }) = board.accept(inbox.recv().await.unwrap()) else {
                panic!("a question is an input");
            };
            board.answer(ticket, Ok(Answer::Events(Vec::new())));
            let (answer, following) = asking.await.unwrap();
            assert_eq!(answer, Answer::Events(Vec::new()));
            let mut following = following.unwrap();
            assert!(board.stream(ticket, StreamItem::Dropped(3)).is_none());
            assert_eq!(following.next().await, Some(StreamItem::Dropped(3)));
            drop(following);
            assert!(matches!(board.accept(inbox.recv().await.unwrap()), Some(Input::Cancel { .. })));
            assert!(board.stream(ticket, StreamItem::End).is_none());
        });
    }

    #[test]
    fn questions_are_taken_up_to_their_limit_and_one_more_is_told_to_come_again() {
        smol::block_on(async {
            let (handle, mut inbox) = Handle::new();
            let ask = || Box::pin(handle.request("test", Request::Status));
            let mut waiting: Vec<_> = (0..QUESTIONS_WAITING_MAX).map(|_| ask()).collect();
            for question in &mut waiting {
                assert!(futures_lite::future::poll_once(question).await.is_none(), "it waits for its answer");
            }
            let refused = ask().await.map_err(|problem| (problem.status(), problem.code.as_str()));
            assert_eq!(refused, Err((503, "BUSY")));
            assert!(inbox.try_recv().is_some());
            assert!(futures_lite::future::poll_once(&mut ask()).await.is_none(), "there is room again");
        });
    }

    #[test]
    fn what_waits_for_a_follower_is_bounded_and_one_too_slow_is_cut() {
        smol::block_on(async {
            let (handle, inbox) = Handle::new();
            let mut board = Switchboard::default();
            let request = Request::Events { object: None, tail: 0, follow: Follow::Follow };
            let mut asking = Box::pin(handle.ask("test", request));
            assert!(futures_lite::future::poll_once(&mut asking).await.is_none());
            let Some(Input::Request { ticket, .. }) = board.accept(inbox.recv().await.unwrap()) else {
                panic!("a question is an input");
            };
            board.answer(ticket, Ok(Answer::Events(Vec::new())));
            let following = asking.await.unwrap().1;
            for _ in 0..FOLLOWER_QUEUE_MAX {
                assert!(board.stream(ticket, StreamItem::Dropped(1)).is_none());
            }
            assert!(matches!(board.stream(ticket, StreamItem::Dropped(1)), Some(Input::Cancel { .. })));
            drop(following);
        });
    }

    #[test]
    fn an_answered_question_says_nothing_more_and_a_dropped_one_is_cancelled() {
        smol::block_on(async {
            let (handle, mut inbox) = Handle::new();
            let mut board = Switchboard::default();
            let ask = |handle: Handle| smol::spawn(async move { handle.request("test", Request::Status).await });
            for result in [Ok(Answer::Deleted), Err(busy())] {
                let asking = ask(handle.clone());
                let Some(Input::Request { ticket, .. }) = board.accept(inbox.recv().await.unwrap()) else {
                    panic!("a question is an input");
                };
                board.answer(ticket, result.clone());
                assert_eq!(asking.await, result);
                assert!(inbox.try_recv().is_none(), "each answered question would be a second message");
            }
            let asking = ask(handle.clone());
            board.accept(inbox.recv().await.unwrap());
            asking.cancel().await;
            assert!(matches!(board.accept(inbox.recv().await.unwrap()), Some(Input::Cancel { .. })));
        });
    }

    #[test]
    fn a_full_queue_is_an_answer() {
        smol::block_on(async {
            let (handle, inbox) = Handle::new();
            let mut waiting = Vec::new();
            for _ in 0..QUESTIONS_WAITING_MAX {
                let mut asking = Box::pin(handle.request("test", Request::Status));
                assert!(futures_lite::future::poll_once(&mut asking).await.is_none(), "there is room");
                waiting.push(asking);
            }
            assert_eq!(handle.request("test", Request::Status).await.unwrap_err().code.as_str(), "BUSY");
            drop(inbox);
            assert_eq!(handle.request("test", Request::Status).await.unwrap_err().code.as_str(), "STOPPING");
        });
    }

    #[test]
    fn a_follower_that_does_not_read_is_let_go() {
        let (handle, inbox) = Handle::new();
        let mut board = Switchboard::default();
        let (answer, _answers) = async_channel::bounded(1);
        let (stream, items) = async_channel::bounded(1);
        let request = Request::Events { object: None, tail: 0, follow: Follow::Follow };
        board.accept(Message::Ask { actor: String::new(), request, ticket: Ticket(1), answer, stream: Some(stream) });
        assert!(board.stream(Ticket(1), StreamItem::Dropped(1)).is_none());
        assert!(matches!(board.stream(Ticket(1), StreamItem::Dropped(2)), Some(Input::Cancel { .. })));
        drop((handle, inbox, items));
    }

    #[test]
    fn a_flood_of_reports_neither_refuses_a_question_nor_keeps_it_waiting() {
        smol::block_on(async {
            let (handle, mut inbox) = Handle::new();
            for _ in 0..ENGINE_QUEUE_MAX {
                handle.queue().try_send(Message::Input(Input::LinkDown)).unwrap();
            }
            let mut asking = Box::pin(handle.request("test", Request::Status));
            assert!(futures_lite::future::poll_once(&mut asking).await.is_none(), "the question waits for its answer");
            let first_two = [inbox.try_recv(), inbox.try_recv()];
            assert!(first_two.iter().any(|message| matches!(message, Some(Message::Ask { .. }))), "{first_two:?}");
        });
    }

    #[test]
    fn a_question_is_cancelled_after_it_was_asked() {
        smol::block_on(async {
            let (handle, mut inbox) = Handle::new();
            let mut asking = Box::pin(handle.request("test", Request::Status));
            assert!(futures_lite::future::poll_once(&mut asking).await.is_none());
            drop(asking);
            assert!(matches!(inbox.try_recv(), Some(Message::Ask { .. })));
            assert!(matches!(inbox.try_recv(), Some(Message::Input(Input::Cancel { .. }))));
        });
    }
}
