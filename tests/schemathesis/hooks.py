"""What schemathesis cannot know of the hub's API: streams never end by themselves, and modules are bytes."""

import json

import schemathesis


@schemathesis.hook
def before_call(ctx, case, kwargs):
    # A stream that is followed ends only with the hub; what watches give is tested elsewhere.
    if isinstance(case.query, dict):
        for name in ("watch", "follow"):
            if str(case.query.get(name)).lower() == "true":
                case.query.pop(name)


@schemathesis.serializer("application/wasm")
def wasm(ctx, value):
    return value if isinstance(value, bytes) else str(value).encode()


@schemathesis.serializer("application/apply-patch+json")
def apply_patch(ctx, value):
    return value if isinstance(value, bytes) else json.dumps(value).encode()
