//! Changes of devices for a map that is followed: read by a thread of its own, because the stream blocks.

use crate::args::{Global, Map};
use crate::client::Client;
use crate::failure::Failure;
use crate::list;
use crate::show::text;
use crate::target::collection;
use crate::watch::{Change, Flow, Memory, Watch};
use hub::model::Kind;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, sync_channel};

/// Changes that may wait to be shown; the stream is not read on before.
const WAITING_MAX: usize = 1024;

pub enum News {
    Change(Change),
    End(Failure),
}

/// The thread ends with the process, or when nobody listens any more; the channel closes when the time is over.
pub fn follow(global: &Global, args: &Map) -> Result<Receiver<News>, Failure> {
    let client = Client::connect(global)?;
    let (sender, news) = sync_channel(WAITING_MAX);
    let (parameters, time) = (list::parameters(&args.selection), global.timeout);
    std::thread::spawn(move || {
        let watch = Watch::new(&client, &collection(Kind::Device, None), parameters, Memory::Objects);
        let result = watch.for_at_most(time).run(&mut |change| match sender.send(News::Change(change)) {
            Ok(()) => Ok(Flow::GoOn),
            Err(_) => Ok(Flow::Stop),
        });
        if let Err(failure) = result {
            // The receiver is gone when somebody left.
            let _ = sender.send(News::End(failure));
        }
    });
    Ok(news)
}

/// The devices as they were last heard of.
#[derive(Default)]
pub struct Devices(BTreeMap<String, Value>);

impl Devices {
    pub fn take(&mut self, change: Change) {
        let name = |device: &Value| text(device, "/metadata/name");
        match change {
            Change::Added(device) | Change::Modified(device) => drop(self.0.insert(name(&device), device)),
            Change::Deleted(device) => drop(self.0.remove(&name(&device))),
            Change::Settled => {}
        }
    }

    pub fn all(&self) -> Vec<Value> {
        self.0.values().cloned().collect()
    }
}
