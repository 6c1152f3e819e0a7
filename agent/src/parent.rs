//! For a process that must not outlive its parent: the parent holds the other end of standard input.
//!
//! A pipe ends however the parent does, even by SIGKILL. Must never end the process by another way than a signal does.
use std::io;

/// From now on the end of standard input is the signal that stops a service, so that there is one way to stop.
pub fn stop_at_end_of_input() -> io::Result<()> {
    let wait = || {
        // What comes in means nothing; an error is an end too.
        let _ = io::copy(&mut io::stdin().lock(), &mut io::sink());
        if let Err(error) = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::TERM) {
            tracing::error!(%error, "cannot stop at the end of standard input");
        }
    };
    std::thread::Builder::new().name("stdin".to_owned()).spawn(wait).map(|_| ())
}
