//! Ends the session of one client, for a credential that is no longer valid.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rmqtt::context::ServerContext;
use rmqtt::types::Id;

use super::counters::{Counters, raise};

/// How long a session that is just being set up may keep a kick waiting.
const KICK_DEADLINE: Duration = Duration::from_secs(10);
/// Pause between two attempts to get hold of such a session.
const KICK_PAUSE: Duration = Duration::from_millis(20);

/// Disconnects `client_id` and forgets its session. A client that is not there is nothing to do: whoever connects
/// later is checked against the table again, after its session can be found.
pub(super) async fn kick_session(context: ServerContext, client_id: String, counters: Arc<Counters>) {
    let id = Id::new(context.node.id(), 0, None, None, client_id.as_str().into(), None);
    let deadline = Instant::now() + KICK_DEADLINE;
    loop {
        let entry = context.extends.shared().await.entry(id.clone());
        if !entry.exist() {
            return;
        }
        if let Ok(mut locked) = entry.try_lock().await {
            match locked.kick(true, true, true).await {
                Ok(_) => {
                    raise(&counters.kicked);
                    tracing::info!(client = %client_id, "session ended");
                }
                Err(error) => tracing::warn!(client = %client_id, %error, "session could not be ended"),
            }
            return;
        }
        if Instant::now() >= deadline {
            tracing::warn!(client = %client_id, "session stayed locked and could not be ended");
            return;
        }
        tokio::time::sleep(KICK_PAUSE).await;
    }
}
