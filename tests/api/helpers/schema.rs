//! Whether a document is what the OpenAPI document says, and nothing more: no field that it does not name.

use serde_json::{Map, Value};

/// The components of an OpenAPI document.
pub(crate) struct Schema<'a> {
    schemas: &'a Map<String, Value>,
}

impl<'a> Schema<'a> {
    pub(crate) fn of(openapi: &'a Value) -> Self {
        Self { schemas: openapi["components"]["schemas"].as_object().unwrap() }
    }

    /// Every way in which `value` is not a `name`.
    pub(crate) fn faults(&self, name: &str, value: &Value) -> Vec<String> {
        let mut faults = Vec::new();
        self.check(&self.schemas[name], value, name, &mut faults);
        faults
    }

    fn check(&self, schema: &Value, value: &Value, at: &str, faults: &mut Vec<String>) {
        let schema = self.resolve(schema);
        if let Some(alternatives) =
            schema.get("oneOf").or_else(|| schema.get("anyOf")).and_then(Value::as_array)
        {
            let fits = |alternative: &&Value| {
                let mut faults = Vec::new();
                self.check(alternative, value, at, &mut faults);
                faults.is_empty()
            };
            if alternatives.iter().find(fits).is_none() {
                faults.push(format!("{at}: fits no alternative: {value}"));
            }
            return;
        }
        if let Some(words) = schema.get("enum").and_then(Value::as_array)
            && !words.contains(value)
        {
            faults.push(format!("{at}: not a listed word: {value}"));
        }
        let kinds = self.kinds(schema);
        if !kinds.is_empty() && !kinds.iter().any(|kind| is(kind, value)) {
            faults.push(format!("{at}: not {kinds:?}: {value}"));
        }
        if let (Some(items), Some(list)) = (schema.get("items"), value.as_array()) {
            for (position, item) in list.iter().enumerate() {
                self.check(items, item, &format!("{at}[{position}]"), faults);
            }
        }
        if let Some(fields) = value.as_object() {
            self.check_fields(schema, fields, at, faults);
        }
    }

    fn check_fields(&self, schema: &Value, fields: &Map<String, Value>, at: &str, faults: &mut Vec<String>) {
        let mut properties = Vec::new();
        self.properties(schema, &mut properties);
        let others = self.resolve(schema).get("additionalProperties");
        for (name, value) in fields {
            let at = format!("{at}.{name}");
            match properties.iter().find(|(property, _, _)| property == name) {
                Some((_, schema, _)) => self.check(schema, value, &at, faults),
                None if others.is_some_and(Value::is_object) => {
                    self.check(&self.resolve(schema)["additionalProperties"], value, &at, faults);
                }
                None if properties.is_empty() => {}
                None => faults.push(format!("{at}: not in the schema")),
            }
        }
        for (name, _, required) in properties {
            if required && !fields.contains_key(name) {
                faults.push(format!("{at}.{name}: missing"));
            }
        }
    }

    /// Every property with its schema and whether it is required, also those of the parts of an `allOf`.
    fn properties<'b>(&'b self, schema: &'b Value, properties: &mut Vec<(&'b str, &'b Value, bool)>) {
        let schema = self.resolve(schema);
        for part in schema.get("allOf").and_then(Value::as_array).into_iter().flatten() {
            self.properties(part, properties);
        }
        let required =
            |name: &str| schema["required"].as_array().is_some_and(|list| list.iter().any(|n| n == name));
        for (name, property) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
            properties.push((name, property, required(name)));
        }
    }

    fn kinds<'b>(&'b self, schema: &'b Value) -> Vec<&'b str> {
        match &self.resolve(schema)["type"] {
            Value::String(kind) => vec![kind],
            Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).collect(),
            _ => Vec::new(),
        }
    }

    fn resolve<'b>(&'b self, schema: &'b Value) -> &'b Value {
        match schema.get("$ref").and_then(Value::as_str) {
            Some(reference) => self.resolve(&self.schemas[reference.rsplit('/').next().unwrap()]),
            None => schema,
        }
    }
}

fn is(kind: &str, value: &Value) -> bool {
    match kind {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        other => panic!("a type that OpenAPI does not have: {other}"),
    }
}
