//! The headers that tell a client how much it may send, on every answer to it.

use serde_json::{Value, json};

/// Puts them on every answer of every operation that asks for a key. They stand once, and are referred to.
pub(super) fn tell(document: &mut Value) {
    document["components"]["headers"] = json!({
        "RateLimit-Policy": {
            "description": "How many requests (`q`) the client may send in how many seconds (`w`), \
                draft-ietf-httpapi-ratelimit-headers-10. Only for a client that has a limit.",
            "schema": {"type": "string"},
            "example": "\"client\";q=100;w=1",
        },
        "RateLimit": {
            "description": "How many requests are left (`r`), and after how many seconds all are there again (`t`). \
                Only for a client that has a limit.",
            "schema": {"type": "string"},
            "example": "\"client\";r=99;t=1",
        },
    });
    let paths = document["paths"].as_object_mut().into_iter().flat_map(|paths| paths.values_mut());
    let operations = paths.filter_map(Value::as_object_mut).flat_map(|path| path.values_mut());
    for operation in operations.filter(|operation| operation.get("security").is_some()) {
        for response in operation["responses"].as_object_mut().into_iter().flat_map(|all| all.values_mut()) {
            for name in ["RateLimit-Policy", "RateLimit"] {
                response["headers"][name] = json!({"$ref": format!("#/components/headers/{name}")});
            }
        }
    }
}
