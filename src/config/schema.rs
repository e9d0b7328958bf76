//! The JSON Schema of a whole configuration, for editors: `loir config schema`.

use schemars::{
    JsonSchema, Schema, SchemaGenerator,
    generate::SchemaSettings,
    json_schema,
    transform::{Transform, transform_subschemas},
};
use serde_json::{Value, json};

use super::{file::File, scalar::Label};

/// A type of provider or registry: its name, a sentence about it, and the schema of its options.
pub type TypeSchema = (&'static str, &'static str, fn(&mut SchemaGenerator) -> Schema);

/// The schema of a file with these providers and registries. Every value may also be a text with `${`.
pub fn schema(providers: &[TypeSchema], registries: &[TypeSchema]) -> Value {
    let mut generator = SchemaSettings::draft2020_12().into_generator();
    let mut root = File::json_schema(&mut generator);
    let entries: Vec<Value> = providers.iter().map(|provider| entry(provider, &mut generator)).collect();
    let registries: Vec<Value> = registries.iter().map(|kind| block(kind, &mut generator)).collect();
    if let Some(Value::Object(properties)) = root.get_mut("properties") {
        set(properties, "providers", json!({ "type": ["array", "null"], "items": { "anyOf": entries } }));
        let registry = json!({ "anyOf": registries });
        set(properties, "registry", registry);
    }
    root.insert("$schema".to_owned(), json!("https://json-schema.org/draft/2020-12/schema"));
    root.insert("$defs".to_owned(), Value::Object(generator.take_definitions(false)));
    OrVariable.transform(&mut root);
    root.to_value()
}

/// Keeps the description that the field's doc comment gave.
fn set(properties: &mut serde_json::Map<String, Value>, key: &str, mut schema: Value) {
    if let Some(description) = properties.get(key).and_then(|old| old.get("description")) {
        schema["description"] = description.clone();
    }
    properties.insert(key.to_owned(), schema);
}

/// The options of a type, with `type` itself.
fn block((name, summary, options): &TypeSchema, generator: &mut SchemaGenerator) -> Value {
    let mut block = options(generator);
    // The options may come as a reference: their own keys must be in the same object as `name` and `type`, or
    // `additionalProperties: false` would refuse those two.
    let reference = block.get("$ref").and_then(Value::as_str).and_then(|path| path.rsplit('/').next());
    if let Some(name) = reference.map(str::to_owned) {
        let referred = generator.definitions_mut().remove(&name);
        block = referred.and_then(|referred| referred.try_into().ok()).unwrap_or_default();
    }
    let block = block.ensure_object();
    block.insert("title".to_owned(), json!(name));
    block.insert("description".to_owned(), json!(summary));
    let properties = block.entry("properties").or_insert_with(|| json!({}));
    properties["type"] = json!({ "const": name, "description": summary });
    if let Value::Array(required) = block.entry("required").or_insert_with(|| json!([])) {
        required.push(json!("type"));
    }
    Value::Object(std::mem::take(block))
}

fn entry(provider: &TypeSchema, generator: &mut SchemaGenerator) -> Value {
    let label = generator.subschema_for::<Label>();
    let mut entry = block(provider, generator);
    entry["properties"]["name"] = label.to_value();
    entry["properties"]["name"]["description"] =
        json!("Unique among the providers: the first half of every app's identity.");
    if let Value::Array(required) = &mut entry["required"] {
        required.push(json!("name"));
    }
    entry
}

/// Lets every value that is narrower than any text also be a text with a variable in it.
struct OrVariable;

impl Transform for OrVariable {
    fn transform(&mut self, schema: &mut Schema) {
        let variable = json!({ "type": "string", "pattern": "\\$\\{" });
        for list in ["anyOf", "oneOf"] {
            let alternatives = match schema.get(list) {
                Some(Value::Array(items)) if items.iter().all(is_narrow) => items.clone(),
                _ => continue,
            };
            // A text with a variable may fit more than one alternative.
            schema.remove(list);
            schema.insert("anyOf".to_owned(), alternatives.into_iter().chain([variable]).collect());
            return;
        }
        if !is_narrow(schema.as_value()) {
            transform_subschemas(self, schema);
            return;
        }
        let mut plain = schema.clone();
        let description = plain.remove("description");
        let mut wrapped = json_schema!({ "anyOf": [plain, variable] });
        if let Some(description) = description {
            wrapped.insert("description".to_owned(), description);
        }
        *schema = wrapped;
    }
}

/// Whether this is one value, and not any text.
fn is_narrow(schema: &Value) -> bool {
    let names = |wanted: &str| match schema.get("type") {
        Some(Value::Array(kinds)) => kinds.iter().any(|kind| kind == wanted),
        kind => kind.is_some_and(|kind| kind == wanted),
    };
    if ["object", "array", "null"].iter().any(|kind| schema.get("type").is_some_and(|only| only == kind)) {
        return false;
    }
    ["const", "enum", "pattern", "minimum", "maximum"].iter().any(|key| schema.get(*key).is_some())
        || (!names("string") && ["integer", "number", "boolean"].iter().any(|kind| names(kind)))
}
