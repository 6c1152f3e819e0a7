//! The exit codes: one enum that the program, its documentation and its tests share.
//!
//! A code is a promise to scripts and CI: it never changes its meaning.

use std::process::ExitCode;

/// How a run of `fulmar` ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    Ok = 0,
    Failure = 1,
    Usage = 2,
    Changes = 3,
    Short = 4,
    Failed = 5,
    Conflict = 6,
    TimedOut = 7,
    NotFound = 8,
    Denied = 9,
}

impl Exit {
    pub const ALL: [Self; 10] = [
        Self::Ok,
        Self::Failure,
        Self::Usage,
        Self::Changes,
        Self::Short,
        Self::Failed,
        Self::Conflict,
        Self::TimedOut,
        Self::NotFound,
        Self::Denied,
    ];

    pub const fn code(self) -> u8 {
        self as u8
    }

    /// One line for the reference.
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::Ok => "done",
            Self::Failure => "failure: input or output, unknown credentials, no hub, or the hub itself",
            Self::Usage => "the command line, a manifest or a request is not valid; nothing was changed",
            Self::Changes => "only with `--exit-code` of `plan` and `diff`: there are changes",
            Self::Short => "no device can take it, or replicas are missing",
            Self::Failed => "the workload failed or was refused on a device, or a rollout was halted",
            Self::Conflict => "the object has changed meanwhile, or its state does not allow it",
            Self::TimedOut => "timed out while waiting",
            Self::NotFound => "no such object",
            Self::Denied => "denied: by policy, by the role of the token, or by `--readonly`",
        }
    }

    /// The code for a refusal of the hub.
    pub fn of_problem(status: u16, code: &str) -> Self {
        match (status, code) {
            (403, _) => Self::Denied,
            (_, "NO_SUCH_ROUTE") => Self::Failure,
            (404, _) => Self::NotFound,
            (409 | 412, _) => Self::Conflict,
            (400 | 413 | 414 | 422, _) => Self::Usage,
            (_, _) => Self::Failure,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_the_promised_numbers_without_gaps() {
        let codes: Vec<u8> = Exit::ALL.iter().map(|exit| exit.code()).collect();
        assert_eq!(codes, (0..10).collect::<Vec<u8>>());
    }

    #[test]
    fn refusals_of_the_hub_have_the_code_that_scripts_expect() {
        let cases = [
            (401, "UNAUTHENTICATED", Exit::Failure),
            (403, "POLICY_DENIED", Exit::Denied),
            (403, "FORBIDDEN", Exit::Denied),
            (404, "NOT_FOUND", Exit::NotFound),
            (404, "NO_SUCH_ROUTE", Exit::Failure),
            (412, "STALE", Exit::Conflict),
            (422, "INVALID", Exit::Usage),
            (422, "NOT_BUILT_YET", Exit::Usage),
            (503, "BUSY", Exit::Failure),
            (507, "NO_SPACE", Exit::Failure),
        ];
        for (status, code, exit) in cases {
            assert_eq!(Exit::of_problem(status, code), exit, "{status} {code}");
        }
    }
}
