//! Every code that a refusal of the API can have, in one table: status, title, what it means and what to do next.
//!
//! A problem is made from a code, so that none exists without its row; docs/reference/errors.md is written from here. Codes
//! are a promise to scripts: append, never rename. Nothing here may know a request.

use std::fmt;

/// What went wrong, as programs tell it apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ProblemCode {
    AnswerNotKept,
    Approved,
    ArtifactTooLarge,
    BadIfMatch,
    BadKey,
    BadLength,
    BadPosition,
    BodyCut,
    BodySlow,
    BodyTooLarge,
    Busy,
    DiskFull,
    Exists,
    FieldConflict,
    Forbidden,
    HeadersTooLarge,
    InProgress,
    InUse,
    Internal,
    Invalid,
    KeyReused,
    LimitReached,
    NamespaceNotFound,
    NoEntropy,
    NoSpace,
    NoSuchRoute,
    NotBuiltYet,
    NotCancellable,
    NotFound,
    NotJson,
    NotNeeded,
    NotReady,
    NotWasm,
    PlanStale,
    Protected,
    Range,
    RateLimited,
    Stale,
    Stopping,
    Storage,
    StoreFailed,
    Unauthenticated,
    UnsupportedPatch,
    UrlTooLong,
    WatchExpired,
    WatchSlow,
    WrongDigest,
    WrongLength,
    WrongMethod,
}

/// All that is the same for every refusal with one code.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// As it stands in the answer.
    pub text: &'static str,
    /// HTTP status.
    pub status: u16,
    /// `title` of RFC 9457.
    pub title: &'static str,
    /// One sentence.
    pub meaning: &'static str,
    /// What to do, where the refusal itself has nothing better to say.
    pub next: &'static str,
}

const fn row(text: &'static str, status: u16, title: &'static str, meaning: &'static str, next: &'static str) -> Row {
    Row { text, status, title, meaning, next }
}

impl ProblemCode {
    /// By name.
    pub const ALL: [Self; 49] = [
        Self::AnswerNotKept,
        Self::Approved,
        Self::ArtifactTooLarge,
        Self::BadIfMatch,
        Self::BadKey,
        Self::BadLength,
        Self::BadPosition,
        Self::BodyCut,
        Self::BodySlow,
        Self::BodyTooLarge,
        Self::Busy,
        Self::DiskFull,
        Self::Exists,
        Self::FieldConflict,
        Self::Forbidden,
        Self::HeadersTooLarge,
        Self::InProgress,
        Self::InUse,
        Self::Internal,
        Self::Invalid,
        Self::KeyReused,
        Self::LimitReached,
        Self::NamespaceNotFound,
        Self::NoEntropy,
        Self::NoSpace,
        Self::NoSuchRoute,
        Self::NotBuiltYet,
        Self::NotCancellable,
        Self::NotFound,
        Self::NotJson,
        Self::NotNeeded,
        Self::NotReady,
        Self::NotWasm,
        Self::PlanStale,
        Self::Protected,
        Self::Range,
        Self::RateLimited,
        Self::Stale,
        Self::Stopping,
        Self::Storage,
        Self::StoreFailed,
        Self::Unauthenticated,
        Self::UnsupportedPatch,
        Self::UrlTooLong,
        Self::WatchExpired,
        Self::WatchSlow,
        Self::WrongDigest,
        Self::WrongLength,
        Self::WrongMethod,
    ];

    /// The table: one arm per code, so that it is longer than a screen.
    pub const fn row(self) -> Row {
        match self {
            Self::AnswerNotKept => row(
                "ANSWER_NOT_KEPT",
                409,
                "Done before, and the answer is gone",
                "The first request with this Idempotency-Key was done, and its answer was too large to be kept.",
                "read the objects that it was about; it is not to be sent again",
            ),
            Self::Approved => row(
                "APPROVED",
                409,
                "The device is approved",
                "Only a device that waits for its approval can be rejected.",
                "end its service instead: fulmar device decommission NAME",
            ),
            Self::ArtifactTooLarge => row(
                "ARTIFACT_TOO_LARGE",
                413,
                "The artifact is too large",
                "The content has more bytes than the hub takes for one artifact.",
                "build the module smaller: optimise for size and strip it",
            ),
            Self::BadIfMatch => row(
                "BAD_IF_MATCH",
                400,
                "If-Match is not one of our ETags",
                "If-Match takes the ETag of an earlier answer, a number in double quotes.",
                "read the object again and use its ETag",
            ),
            Self::BadKey => row(
                "BAD_KEY",
                400,
                "Not a key",
                "The Idempotency-Key is empty, too long, or not printable.",
                "send a random key of at most 128 characters, such as a UUID",
            ),
            Self::BadLength => row(
                "BAD_LENGTH",
                400,
                "Content-Length is not a number",
                "The declared length of the body cannot be read.",
                "send the number of bytes, or no Content-Length",
            ),
            Self::BadPosition => row(
                "BAD_POSITION",
                400,
                "Not a position",
                "What a watch is to go on from is neither the resourceVersion of a list nor an event's id.",
                "list again",
            ),
            Self::BodyCut => row(
                "BODY_CUT",
                400,
                "The body ended early",
                "The connection broke inside the body; nothing was done.",
                "send the request again",
            ),
            Self::BodySlow => row(
                "BODY_SLOW",
                408,
                "The body came too slowly",
                "The hub does not wait for a client that sends next to nothing; nothing was done.",
                "send the request again",
            ),
            Self::BodyTooLarge => row(
                "BODY_TOO_LARGE",
                413,
                "The body is too large",
                "The body has more bytes than this route takes.",
                "send less at once: one object per request, fewer documents per plan",
            ),
            Self::Busy => row(
                "BUSY",
                503,
                "The hub is busy",
                "A queue of the hub is full, so that this request was not taken; nothing was done.",
                "try again in a second; fulmar status says what the hub does",
            ),
            Self::DiskFull => row(
                "DISK_FULL",
                507,
                "Not stored: the disk is full",
                "The database could not grow; nothing of the request was kept.",
                "free some space on the hub's disk and send it again",
            ),
            Self::Exists => row(
                "EXISTS",
                409,
                "Exists already",
                "There is an object of this name, and this request only makes new ones.",
                "delete it first, or take another name",
            ),
            Self::FieldConflict => row(
                "FIELD_CONFLICT",
                409,
                "Another manager owns these fields",
                "Server-side apply does not change a field that another manager has set to another value.",
                "leave these fields out, or apply with force=true (--force-conflicts) to take them over",
            ),
            Self::Forbidden => row(
                "FORBIDDEN",
                403,
                "Not allowed",
                "The credentials are good, but not for this.",
                "fulmar whoami --can VERB KIND tells what a token is good for; an administrator makes another",
            ),
            Self::HeadersTooLarge => row(
                "HEADERS_TOO_LARGE",
                431,
                "The headers are too large",
                "The headers of the request have more bytes than the hub reads.",
                "send fewer or shorter headers",
            ),
            Self::InProgress => row(
                "IN_PROGRESS",
                409,
                "Not done yet",
                "The first request with this Idempotency-Key is still under way.",
                "ask again in a second with the same key",
            ),
            Self::InUse => row(
                "IN_USE",
                409,
                "Still in use",
                "Other objects refer to this one, and the detail names them.",
                "delete or change these first",
            ),
            Self::Internal => row(
                "INTERNAL",
                500,
                "The hub made a mistake",
                "The hub contradicts itself; what was asked for may be done or not.",
                "report it with the hub's log",
            ),
            Self::Invalid => row(
                "INVALID",
                422,
                "Not valid",
                "A document or parameter has mistakes; `errors` has each with its place, and nothing was changed.",
                "correct what `errors` names; fulmar explain KIND.FIELD tells what a field takes",
            ),
            Self::KeyReused => row(
                "KEY_REUSED",
                422,
                "The key stands for another request",
                "This Idempotency-Key came with another body before.",
                "take a new key for every new request",
            ),
            Self::LimitReached => row(
                "LIMIT_REACHED",
                409,
                "A limit is reached",
                "There are as many of these as the hub keeps; the detail has the limit.",
                "delete what is not needed any more",
            ),
            Self::NamespaceNotFound => row(
                "NAMESPACE_NOT_FOUND",
                404,
                "No such namespace",
                "The namespace is not there, and nothing is kept outside of one.",
                "make it first, or name another one: fulmar get namespaces",
            ),
            Self::NoEntropy => row(
                "NO_ENTROPY",
                500,
                "The hub has no random bytes",
                "The hub's operating system gave no random bytes, so that no secret can be made.",
                "look at the machine of the hub, then try again",
            ),
            Self::NoSpace => row(
                "NO_SPACE",
                507,
                "The hub's disk is full",
                "The artifact does not fit on the hub's disk; nothing of it was kept.",
                "free some space on the hub's disk, or delete artifacts",
            ),
            Self::NoSuchRoute => row(
                "NO_SUCH_ROUTE",
                404,
                "No such route",
                "The path is none of this hub's API; a hub of another version may have it.",
                "see docs/reference/api.md; fulmar version compares both programs",
            ),
            Self::NotBuiltYet => row(
                "NOT_BUILT_YET",
                422,
                "Asks for something that is not built yet",
                "The field is part of the format, but this version of the hub does not act on it.",
                "leave the field out",
            ),
            Self::NotCancellable => row(
                "NOT_CANCELLABLE",
                409,
                "This cannot be taken back",
                "Of what waits for a device only additions can be taken back; the older version of an update is gone from the hub.",
                "apply the manifest that is to hold; fulmar queue shows what waits",
            ),
            Self::NotFound => row(
                "NOT_FOUND",
                404,
                "Not found",
                "There is no object of this kind and name.",
                "list what there is: fulmar get KIND, with -A for all namespaces",
            ),
            Self::NotJson => row(
                "NOT_JSON",
                400,
                "The body is not acceptable JSON",
                "The body is not JSON in UTF-8, or it is nested too deeply.",
                "send a JSON document",
            ),
            Self::NotNeeded => row(
                "NOT_NEEDED",
                409,
                "There is nothing to decide",
                "The request decides something that is not open: no second hub, no device that is ahead or in quarantine.",
                "fulmar status",
            ),
            Self::NotReady => row(
                "NOT_READY",
                503,
                "The hub is not ready",
                "The hub has no connection to its broker, or its database takes no change.",
                "fulmar doctor finds out what is missing",
            ),
            Self::NotWasm => row(
                "NOT_WASM",
                422,
                "The artifact is not a WebAssembly module",
                "The content does not start like a WebAssembly core module of version 1.",
                "build a core module, neither a component nor text: fulmar fn build",
            ),
            Self::PlanStale => row(
                "PLAN_STALE",
                409,
                "The plan is stale",
                "Objects, regions or devices are not as they were when the plan was made; nothing was changed.",
                "make a new plan, and look at it",
            ),
            Self::Protected => row(
                "PROTECTED",
                409,
                "Cannot be deleted",
                "The namespace `default` is where everything goes that names none; it stays.",
                "delete what is in it: fulmar get all -n default",
            ),
            Self::Range => row(
                "RANGE",
                416,
                "The artifact has no such part",
                "The asked bytes begin behind the end of the artifact.",
                "ask for a part within the artifact's size",
            ),
            Self::RateLimited => row(
                "RATE_LIMITED",
                429,
                "Too many requests",
                "This caller asks more often than it may.",
                "wait as long as Retry-After says; watch instead of listing again and again",
            ),
            Self::Stale => row(
                "STALE",
                412,
                "The object has changed",
                "Somebody changed the object since the version that If-Match names.",
                "read it again, and repeat the change on that",
            ),
            Self::Stopping => row(
                "STOPPING",
                503,
                "The hub is stopping",
                "The hub was stopped before it answered; a write may or may not have happened.",
                "start the hub, then read the object again",
            ),
            Self::Storage => row(
                "STORAGE",
                500,
                "The hub's disk does not work",
                "A file of an artifact could not be read or written.",
                "see the hub's log, and the disk under its data directory",
            ),
            Self::StoreFailed => row(
                "STORE_FAILED",
                500,
                "Not stored: the database could not be written",
                "Nothing of the request was kept.",
                "see the hub's log, then send it again",
            ),
            Self::Unauthenticated => row(
                "UNAUTHENTICATED",
                401,
                "Credentials are missing or wrong",
                "The token is missing, is none of this hub, or has ended.",
                "fulmar login keeps a token; FULMAR_TOKEN takes one; the hub's own is in <data>/run/admin.token",
            ),
            Self::UnsupportedPatch => row(
                "UNSUPPORTED_PATCH",
                415,
                "Not a patch that is known",
                "A patch is a partial manifest with the media type of server-side apply.",
                "send it with Content-Type: application/apply-patch+json",
            ),
            Self::UrlTooLong => row(
                "URL_TOO_LONG",
                414,
                "The URL is too long",
                "Path and query have more bytes than the hub reads.",
                "shorten the selectors of the query",
            ),
            Self::WatchExpired => row(
                "WATCH_EXPIRED",
                410,
                "The position is too old",
                "The watch cannot go on from there: changes in between are not kept any more.",
                "list again, and watch from the resourceVersion of that list",
            ),
            Self::WatchSlow => row(
                "WATCH_SLOW",
                503,
                "Too slow",
                "The hub ended a watch, because its client did not take in time what there was.",
                "watch again with the id of the last event as Last-Event-ID",
            ),
            Self::WrongDigest => row(
                "WRONG_DIGEST",
                422,
                "The content is not what was declared",
                "The SHA-256 of the content is not that of the request, so that it was not kept.",
                "upload the file again; if that does not help, it changes while it is read",
            ),
            Self::WrongLength => row(
                "WRONG_LENGTH",
                422,
                "The content is not what was declared",
                "There were more or fewer bytes than Content-Length says, so that nothing was kept.",
                "upload the file again",
            ),
            Self::WrongMethod => row(
                "WRONG_METHOD",
                405,
                "The route does not take this method",
                "The path is known, but not with this method.",
                "see docs/reference/api.md",
            ),
        }
    }

    pub const fn as_str(self) -> &'static str {
        self.row().text
    }

    /// HTTP status.
    pub const fn status(self) -> u16 {
        self.row().status
    }

    /// Where the documentation has it.
    pub fn docs(self) -> String {
        format!("docs/reference/errors.md#{}", self.as_str().to_ascii_lowercase())
    }
}

impl fmt::Display for ProblemCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_listed_once_by_name_and_has_words() {
        let names = ProblemCode::ALL.map(|code| format!("{code:?}"));
        assert!(names.is_sorted_by(|one, next| one < next), "{names:?}");
        for code in ProblemCode::ALL {
            let Row { text, status, title, meaning, next } = code.row();
            assert!((400..600).contains(&status), "{code}");
            assert!(text.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_'), "{code}");
            assert!(meaning.ends_with('.') && !title.ends_with('.') && !next.is_empty(), "{code}");
            // The variant and its text are one word in two spellings.
            assert_eq!(format!("{code:?}").to_ascii_uppercase(), text.replace('_', ""));
        }
    }

    #[test]
    fn a_code_that_is_made_is_a_code_that_is_listed() {
        // The list is as long as the enum: the last variant by declaration is the last by name.
        assert_eq!(ProblemCode::ALL.len(), ProblemCode::WrongMethod as usize + 1);
    }
}
