//! JSON: the model's own fields, with durations as `1m30s` and the tokens' hashes left out.

use std::time::Duration;

use serde::Serialize;
use serde_json::Value;

/// Prints one document, indented.
pub fn print<T: Serialize + ?Sized>(value: &T) {
    super::print(serde_json::to_string_pretty(&tree(value)).expect("a tree is JSON"));
}

/// Prints one line.
pub fn line<T: Serialize + ?Sized>(value: &T) {
    super::print(tree(value).to_string());
}

/// The value as it is printed.
pub fn tree<T: Serialize + ?Sized>(value: &T) -> Value {
    let mut tree = serde_json::to_value(value).expect("a model value is plain data");
    readable(&mut tree);
    tree
}

fn readable(value: &mut Value) {
    if let Some(duration) = as_duration(value) {
        *value = crate::value::duration_text(duration).into();
        return;
    }
    match value {
        Value::Object(fields) => {
            fields.remove("secret_hash");
            fields.values_mut().for_each(readable);
        }
        Value::Array(items) => items.iter_mut().for_each(readable),
        _ => {}
    }
}

/// Serde's form of a duration.
fn as_duration(value: &Value) -> Option<Duration> {
    let fields = value.as_object().filter(|fields| fields.len() == 2)?;
    Some(Duration::new(fields.get("secs")?.as_u64()?, u32::try_from(fields.get("nanos")?.as_u64()?).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_readable_and_hashes_are_left_out() {
        let tree = tree(&serde_json::json!({ "a": [Duration::from_millis(1500)], "secret_hash": [1, 2] }));
        assert_eq!(tree, serde_json::json!({ "a": ["1s500ms"] }));
    }
}
